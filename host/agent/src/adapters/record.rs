//! The record of a process: its settings and whether it should run. One file for each process in the node's folder.
//!
//! An adapter writes the record before it acts, so that the next agent knows what to do.

use std::io;
use std::path::{Path, PathBuf};

use proto::v1 as pb;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::node_root::{NodeRoot, RUN_DIR};

/// Whether a process should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DesiredState {
    /// The process should run.
    Running,
    /// The process should stay stopped.
    Stopped,
}

/// The record of a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessRecord {
    pub(crate) process: pb::Process,
    pub(crate) desired: DesiredState,
}

/// Writes a process's record.
pub(super) fn save(root: &NodeRoot, record: &ProcessRecord) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(record)?;
    root.write(&path(&record.process.name, "json"), &bytes, 0o600)
}

/// Reads a process's record.
pub(super) fn load(root: &NodeRoot, name: &str) -> io::Result<Option<ProcessRecord>> {
    read(root, &path(name, "json"))
}

/// Reads all records of a node, by name.
pub(super) fn load_all(root: &NodeRoot) -> io::Result<Vec<ProcessRecord>> {
    let mut records = Vec::new();
    for entry in root.dir.read_dir(RUN_DIR)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if let Some(record) = name
            .strip_suffix(".json")
            .map(|name| load(root, name))
            .transpose()?
        {
            records.extend(record);
        }
    }
    records.sort_by(|a, b| a.process.name.cmp(&b.process.name));
    Ok(records)
}

/// Deletes a process's record.
pub(super) fn remove(root: &NodeRoot, name: &str) -> io::Result<()> {
    root.remove(&path(name, "json"))
}

/// One of a process's files.
pub(super) fn path(name: &str, kind: &str) -> PathBuf {
    Path::new(RUN_DIR).join(format!("{name}.{kind}"))
}

/// Reads JSON from the node's folder; `None` when the file does not exist.
pub(super) fn read<T: DeserializeOwned>(root: &NodeRoot, path: &Path) -> io::Result<Option<T>> {
    match root.dir.read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
