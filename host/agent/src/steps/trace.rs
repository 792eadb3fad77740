//! What a step made and replaced: enough to undo it without knowing its type.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::adapters::process::ProcessRecord;
use crate::node_root::NodeRoot;

/// What a step touches; paths are relative to the node's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trace {
    /// What did not exist before, each with everything below it.
    pub(crate) made: Vec<PathBuf>,
    /// Files that were replaced, with where their old content is.
    pub(crate) files: Vec<Saved>,
    /// Links that were switched, with where they pointed.
    pub(crate) links: Vec<Switched>,
    /// The process that was registered.
    pub(crate) process: Option<TracedProcess>,
}

/// A replaced file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) path: PathBuf,
    pub(crate) copy: PathBuf,
}

/// A switched link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Switched {
    pub(crate) path: PathBuf,
    pub(crate) target: PathBuf,
}

/// A registered process, and the record that it had before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TracedProcess {
    pub(crate) name: String,
    pub(crate) before: Option<ProcessRecord>,
}

impl Trace {
    /// `path` will be made, with the folders above it that are missing.
    pub(crate) fn will_make(&mut self, root: &NodeRoot, path: &Path) -> anyhow::Result<()> {
        let missing = root.first_missing(path);
        let missing = missing.with_context(|| format!("`{}` can't be used", path.display()))?;
        self.made
            .extend(missing.filter(|missing| !self.made.contains(missing)));
        Ok(())
    }

    /// `path` will be replaced: its content is copied to `copy`.
    pub(crate) fn will_replace(
        &mut self,
        root: &NodeRoot,
        path: &Path,
        copy: PathBuf,
    ) -> anyhow::Result<()> {
        if !root.has(path) {
            return self.will_make(root, path);
        }
        let meta = root.dir.symlink_metadata(path)?;
        anyhow::ensure!(
            meta.is_file(),
            "`{}` exists and is not a plain file; choose another path",
            path.display()
        );
        root.create_parents(&copy)?;
        root.dir
            .copy(path, &root.dir, &copy)
            .context("the present file can't be kept for undoing")?;
        self.files.push(Saved {
            path: path.to_owned(),
            copy,
        });
        Ok(())
    }

    /// The link at `path` will be made or switched.
    pub(crate) fn will_link(&mut self, root: &NodeRoot, path: &Path) -> anyhow::Result<()> {
        match root.dir.symlink_metadata(path) {
            Ok(meta) if meta.is_symlink() => {
                let target = root.dir.read_link_contents(path)?;
                self.links.push(Switched {
                    path: path.to_owned(),
                    target,
                });
            }
            Ok(_) => anyhow::bail!("`{}` exists and is not a link; remove it", path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.will_make(root, path)?,
            Err(error) => return Err(error).context("the link can't be looked at"),
        }
        Ok(())
    }

    /// Puts everything back but the process.
    pub(super) fn undo(&self, root: &NodeRoot) -> anyhow::Result<()> {
        for link in &self.links {
            root.switch_link(&link.path, &link.target)
                .with_context(|| format!("link `{}` can't be put back", link.path.display()))?;
        }
        for file in &self.files {
            match root.dir.rename(&file.copy, &root.dir, &file.path) {
                // Without the copy it was put back already, or never replaced.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other
                    .with_context(|| format!("file `{}` can't be put back", file.path.display()))?,
            }
        }
        for path in self.made.iter().rev() {
            root.remove(path)
                .with_context(|| format!("`{}` can't be removed", path.display()))?;
        }
        Ok(())
    }
}
