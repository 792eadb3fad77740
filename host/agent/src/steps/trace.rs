//! The changes of a step in the node's folder: what it creates and replaces. Enough to undo most types of steps.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::Payload;
use crate::node_root::NodeRoot;

/// What a step changes. Paths are relative to the node's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trace {
    /// What did not exist before, each with everything below it.
    pub(super) created: Vec<PathBuf>,
    /// Files that the step replaces.
    files: Vec<FileBackup>,
    /// Links that the step switches.
    links: Vec<LinkBackup>,
}

/// A file, and where the copy of its old content is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FileBackup {
    path: PathBuf,
    copy: PathBuf,
}

/// A link and its old target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LinkBackup {
    path: PathBuf,
    target: PathBuf,
}

impl Trace {
    /// The trace as the journal stores it.
    pub(super) fn into_payload(self) -> anyhow::Result<Payload> {
        Ok(Payload::of(&self)?)
    }

    /// The step will create `path` and its missing parents.
    pub(super) fn will_create(&mut self, root: &NodeRoot, path: &Path) -> anyhow::Result<()> {
        let missing = root.first_missing(path);
        let missing =
            missing.with_context(|| format!("the agent can't access `{}`", path.display()))?;
        self.created
            .extend(missing.filter(|missing| !self.created.contains(missing)));
        Ok(())
    }

    /// The step will replace `path`. Copies its content to `copy`.
    pub(super) fn will_replace(
        &mut self,
        root: &NodeRoot,
        path: &Path,
        copy: PathBuf,
    ) -> anyhow::Result<()> {
        if !root.has(path) {
            return self.will_create(root, path);
        }
        let meta = root.dir.symlink_metadata(path)?;
        anyhow::ensure!(
            meta.is_file(),
            "`{}` exists and is not a regular file; choose another path",
            path.display()
        );
        root.create_parents(&copy)?;
        root.dir
            .copy(path, &root.dir, &copy)
            .context("the agent can't back up the existing file")?;
        self.files.push(FileBackup {
            path: path.to_owned(),
            copy,
        });
        Ok(())
    }

    /// The step will create or switch the link at `path`.
    pub(super) fn will_link(&mut self, root: &NodeRoot, path: &Path) -> anyhow::Result<()> {
        match root.dir.symlink_metadata(path) {
            Ok(meta) if meta.is_symlink() => {
                let target = root.dir.read_link_contents(path)?;
                self.links.push(LinkBackup {
                    path: path.to_owned(),
                    target,
                });
            }
            Ok(_) => anyhow::bail!("`{}` exists and is not a link; remove it", path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.will_create(root, path)?;
            }
            Err(error) => return Err(error).context("the agent can't read the link"),
        }
        Ok(())
    }

    /// Restores what was there before the step. Blocks.
    pub(super) fn undo(&self, root: &NodeRoot) -> anyhow::Result<()> {
        for link in &self.links {
            root.switch_link(&link.path, &link.target)
                .with_context(|| {
                    format!("the agent can't restore link `{}`", link.path.display())
                })?;
        }
        for file in &self.files {
            match root.dir.rename(&file.copy, &root.dir, &file.path) {
                // Without the copy, the file was restored already or never replaced.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.with_context(|| {
                    format!("the agent can't restore file `{}`", file.path.display())
                })?,
            }
        }
        for path in self.created.iter().rev() {
            root.remove(path)
                .with_context(|| format!("the agent can't remove `{}`", path.display()))?;
        }
        Ok(())
    }
}
