//! A node's folder, and the only access to the files in it.
//!
//! All access goes through a directory handle that no path escapes: neither with `..`, nor as an absolute path, nor through
//! a link. The text of each path is checked first, because that gives a better error than a failed system call.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt};
use host_domain::ids::NodeId;

use crate::layout::Layout;

/// The folder inside each node's folder that belongs to the agent.
pub(crate) const RUN_DIR: &str = "run";
/// The output of processes.
pub(crate) const LOGS_DIR: &str = "logs";
/// Links to the binaries of the node.
pub(crate) const BIN_DIR: &str = "bin";

/// A path that a step may not use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("path `{path}` {reason}; write a path relative to the node's folder")]
pub(crate) struct PathError {
    path: String,
    reason: &'static str,
}

/// An open node folder.
#[derive(Debug, Clone)]
pub(crate) struct NodeRoot {
    pub(crate) id: NodeId,
    pub(crate) path: PathBuf,
    pub(crate) dir: Arc<Dir>,
}

impl NodeRoot {
    /// Opens the folder, and creates it if it is missing.
    pub(crate) fn create(layout: &Layout, id: NodeId) -> io::Result<Self> {
        let path = layout.node(id);
        crate::durable::create_dir(&path)?;
        let root = Self::open_at(id, path)?;
        for folder in [RUN_DIR, LOGS_DIR] {
            root.dir.create_dir_all(folder)?;
        }
        Ok(root)
    }

    /// Opens the folder; `None` when it does not exist.
    pub(crate) fn open(layout: &Layout, id: NodeId) -> io::Result<Option<Self>> {
        match Self::open_at(id, layout.node(id)) {
            Ok(root) => Ok(Some(root)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open_at(id: NodeId, path: PathBuf) -> io::Result<Self> {
        let dir = Dir::open_ambient_dir(&path, ambient_authority())?;
        Ok(Self {
            id,
            path,
            dir: Arc::new(dir),
        })
    }

    /// Replaces a file atomically: a reader sees the old content or the new one.
    pub(crate) fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        use io::Write as _;
        let temp = sibling(path, "tmp");
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(mode);
        let written = self.dir.open_with(&temp, &options).and_then(|mut file| {
            file.write_all(content)?;
            // The umask may have removed bits.
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        });
        let placed = written.and_then(|()| self.dir.rename(&temp, &self.dir, path));
        if placed.is_err() {
            let _ = self.dir.remove_file(&temp);
        }
        placed
    }

    /// Points a link at `target` atomically.
    pub(crate) fn switch_link(&self, link: &Path, target: &Path) -> io::Result<()> {
        let temp = sibling(link, "link");
        self.dir.symlink(target, &temp)?;
        let placed = self.dir.rename(&temp, &self.dir, link);
        if placed.is_err() {
            let _ = self.dir.remove_file(&temp);
        }
        placed
    }

    /// Removes a file, a link or a whole folder if it exists.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = match self.dir.symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => self.dir.remove_dir_all(path),
            Ok(_) => self.dir.remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Whether the path exists. A dangling link exists.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.dir.symlink_metadata(path).is_ok()
    }

    /// The topmost part of `path` that does not exist. Removing it undoes the creation of `path`. Fails if a link leads
    /// out of the folder.
    pub(crate) fn first_missing(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let mut ancestor = PathBuf::new();
        for part in path.components() {
            ancestor.push(part);
            match self.dir.symlink_metadata(&ancestor) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(ancestor)),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Creates the parents of `path`.
    pub(crate) fn create_parents(&self, path: &Path) -> io::Result<()> {
        match path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            Some(parent) => self.dir.create_dir_all(parent),
            None => Ok(()),
        }
    }
}

/// Parses a path of a step: relative, without `..`, and outside the agent's own folder.
pub(crate) fn checked(text: &str) -> Result<PathBuf, PathError> {
    let fail = |reason| PathError {
        path: text.to_owned(),
        reason,
    };
    if text.is_empty() || text.contains('\0') {
        return Err(fail("is empty or contains a null character"));
    }
    let mut path = PathBuf::new();
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err(fail("leads out of the node's folder with `..`")),
            Component::RootDir | Component::Prefix(_) => return Err(fail("is absolute")),
        }
    }
    if path.as_os_str().is_empty() {
        return Err(fail("names the node's folder itself"));
    }
    if path.starts_with(RUN_DIR) {
        return Err(fail("is in `run`, which belongs to the agent"));
    }
    Ok(path)
}

/// Parses a file name: no separators and no special characters.
pub(crate) fn checked_name(text: &str) -> Result<&str, PathError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    if text.is_empty() || text.len() > 100 || text.starts_with('.') || !text.chars().all(plain) {
        let reason = "is not a plain name (letters, digits, `-`, `_`, `.`, at most 100)";
        return Err(PathError {
            path: text.to_owned(),
            reason,
        });
    }
    Ok(text)
}

/// A new name next to `path`, so that the rename into place stays within one folder.
pub(crate) fn sibling(path: &Path, purpose: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(
        ".{name}.{purpose}-{}",
        uuid::Uuid::now_v7().simple()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, NodeRoot) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        let root = NodeRoot::create(&layout, NodeId(uuid::Uuid::now_v7())).unwrap();
        (dir, root)
    }

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a/../../b",
            "/etc/passwd",
            "run/x.json",
            "a\0b",
            "./run",
        ] {
            assert!(checked(bad).is_err(), "{bad:?}");
        }
        for (good, clean) in [
            ("a/b", "a/b"),
            ("./a", "a"),
            ("a//b/", "a/b"),
            ("..a", "..a"),
        ] {
            assert_eq!(checked(good).unwrap(), Path::new(clean));
        }
    }

    #[test]
    fn a_link_out_of_the_folder_is_not_followed() {
        let (_keep, root) = root();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path.join("out")).unwrap();
        assert!(root.write(Path::new("out/file"), b"x", 0o600).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_switched_link_points_at_the_newer_target_and_leaves_no_rest() {
        let (_keep, root) = root();
        root.dir.create_dir("bin").unwrap();
        root.switch_link(Path::new("bin/tool"), Path::new("../a"))
            .unwrap();
        root.switch_link(Path::new("bin/tool"), Path::new("../b"))
            .unwrap();
        assert_eq!(
            root.dir.read_link_contents("bin/tool").unwrap(),
            Path::new("../b")
        );
        assert_eq!(root.dir.read_dir("bin").unwrap().count(), 1);
    }

    #[test]
    fn the_first_missing_part_is_found() {
        let (_keep, root) = root();
        root.dir.create_dir_all("a/b").unwrap();
        assert_eq!(
            root.first_missing(Path::new("a/b/c/d")).unwrap(),
            Some(PathBuf::from("a/b/c"))
        );
        assert_eq!(root.first_missing(Path::new("a/b")).unwrap(), None);
    }
}
