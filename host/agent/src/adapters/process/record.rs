//! What the agent writes down about a process: how to run it, whether it should run, and which pid it had.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::v1 as pb;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::node_root::{NodeRoot, PathError, RUN_DIR, checked, checked_name};

/// When a process that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RestartPolicy {
    /// However it ended.
    Always,
    /// When it ended by a signal or with a status other than 0.
    OnFailure,
    /// Never.
    Never,
}

/// How to run a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessSpec {
    pub(crate) name: String,
    pub(crate) command: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) restart: RestartPolicy,
    pub(crate) backoff_ms: u64,
    pub(crate) backoff_max_ms: u64,
    pub(crate) restarts_max: u32,
    pub(crate) stop_grace_ms: u64,
    pub(crate) log_bytes_max: u64,
    pub(crate) log_files: u32,
}

impl ProcessSpec {
    /// Time between SIGTERM and SIGKILL.
    pub(crate) fn stop_grace(&self) -> Duration {
        Duration::from_millis(self.stop_grace_ms)
    }
}

impl TryFrom<&pb::Process> for ProcessSpec {
    type Error = PathError;

    fn try_from(process: &pb::Process) -> Result<Self, PathError> {
        use pb::process::RestartPolicy as P;
        let command = Path::new(&process.command);
        let command = if command.is_absolute() {
            command.to_owned()
        } else {
            checked(&process.command)?
        };
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        Ok(Self {
            name: checked_name(&process.name)?.to_owned(),
            command,
            args: process.args.clone(),
            env: process.env.clone().into_iter().collect(),
            restart: match process.restart() {
                P::Always | P::Unspecified => RestartPolicy::Always,
                P::OnFailure => RestartPolicy::OnFailure,
                P::Never => RestartPolicy::Never,
            },
            backoff_ms: or(process.backoff_ms, 1_000),
            backoff_max_ms: or(process.backoff_max_ms, 60_000),
            restarts_max: process.restarts_max,
            stop_grace_ms: or(process.stop_grace_ms, 10_000).min(10 * 60 * 1_000),
            log_bytes_max: or(process.log_bytes_max, 10 * 1024 * 1024),
            log_files: process.log_files.clamp(1, 100),
        })
    }
}

/// Whether a process should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Desired {
    /// It should run.
    Running,
    /// It should stay stopped.
    Stopped,
}

/// The record of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRecord {
    pub(crate) spec: ProcessSpec,
    pub(crate) desired: Desired,
}

/// The process that was started last. The start time tells it from a later process with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PidRecord {
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
    pub(crate) at_ms: i64,
}

/// Writes a process's record.
pub(crate) fn save(root: &NodeRoot, record: &ProcessRecord) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(record)?;
    root.write(&path(&record.spec.name, "json"), &bytes, 0o600)
}

/// Reads a process's record.
pub(crate) fn load(root: &NodeRoot, name: &str) -> io::Result<Option<ProcessRecord>> {
    read(root, &path(name, "json"))
}

/// Reads all records of a node.
pub(crate) fn load_all(root: &NodeRoot) -> io::Result<Vec<ProcessRecord>> {
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
    records.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    Ok(records)
}

/// Writes which pid a process has.
pub(crate) fn save_pid(root: &NodeRoot, name: &str, pid: PidRecord) -> io::Result<()> {
    root.write(&path(name, "pid"), &serde_json::to_vec(&pid)?, 0o600)
}

/// Reads which pid a process had.
pub(crate) fn load_pid(root: &NodeRoot, name: &str) -> io::Result<Option<PidRecord>> {
    read(root, &path(name, "pid"))
}

/// Forgets a process.
pub(crate) fn remove(root: &NodeRoot, name: &str) -> io::Result<()> {
    for kind in ["json", "pid", "lock"] {
        root.remove(&path(name, kind))?;
    }
    Ok(())
}

/// One of a process's files.
pub(crate) fn path(name: &str, kind: &str) -> PathBuf {
    Path::new(RUN_DIR).join(format!("{name}.{kind}"))
}

fn read<T: DeserializeOwned>(root: &NodeRoot, path: &Path) -> io::Result<Option<T>> {
    match root.dir.read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
