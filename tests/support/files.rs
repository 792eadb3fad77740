//! What lies in a folder.

use std::path::{Path, PathBuf};

/// Files below a folder that hold these bytes, in order of their paths.
pub(crate) fn holding(folder: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(holding(&path, bytes));
        } else if kind.is_file() {
            // A file that went meanwhile holds nothing.
            let content = std::fs::read(&path).unwrap_or_default();
            if content.windows(bytes.len()).any(|part| part == bytes) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
