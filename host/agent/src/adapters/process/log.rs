//! Rotates the log of a process by copying and truncating it.
//!
//! The process keeps its log open, so the agent can't replace the file. Output between the copy and the truncation is
//! lost.

use std::io;
use std::path::{Path, PathBuf};

use crate::node_root::{LOGS_DIR, NodeRoot};

/// Rotates the log when it is larger than `bytes_max`. `files` is the number of files to keep, including the current one.
pub(crate) fn rotate(root: &NodeRoot, name: &str, bytes_max: u64, files: u32) -> io::Result<bool> {
    let path = numbered(name, 0);
    let bytes = match root.dir.metadata(&path) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    if bytes <= bytes_max {
        return Ok(false);
    }
    for number in (1..files.saturating_sub(1)).rev() {
        match root.dir.rename(
            numbered(name, number),
            &root.dir,
            numbered(name, number + 1),
        ) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    if files > 1 {
        root.dir.copy(&path, &root.dir, numbered(name, 1))?;
    }
    let file = root
        .dir
        .open_with(&path, cap_std::fs::OpenOptions::new().write(true))?;
    file.set_len(0)?;
    Ok(true)
}

fn numbered(name: &str, number: u32) -> PathBuf {
    let suffix = if number == 0 {
        String::new()
    } else {
        format!(".{number}")
    };
    Path::new(LOGS_DIR).join(format!("{name}.log{suffix}"))
}

#[cfg(test)]
mod tests {
    use host_domain::ids::NodeId;

    use super::*;
    use crate::layout::Layout;

    #[test]
    fn full_logs_are_rotated_and_the_oldest_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        let root = NodeRoot::create(&layout, NodeId(uuid::Uuid::now_v7())).unwrap();
        let write = |text: &str| root.dir.write("logs/a.log", text).unwrap();
        let read = |name: &str| root.dir.read_to_string(Path::new("logs").join(name)).ok();
        for text in ["first", "second", "third", "fourth"] {
            write(text);
            assert!(rotate(&root, "a", 3, 3).unwrap());
        }
        write("ab");
        assert!(!rotate(&root, "a", 3, 3).unwrap());
        assert_eq!(read("a.log").as_deref(), Some("ab"));
        assert_eq!(read("a.log.1").as_deref(), Some("fourth"));
        assert_eq!(read("a.log.2").as_deref(), Some("third"));
        assert_eq!(read("a.log.3"), None);
    }
}
