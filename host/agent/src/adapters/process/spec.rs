//! The settings of a process as this adapter reads them, and the pid that the process had last.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::v1 as pb;
use proto::v1::process::RestartPolicy;
use serde::{Deserialize, Serialize};

use super::super::record::{self, DesiredState, ProcessRecord};
use crate::node_root::{NodeRoot, PathError, checked, checked_name};

/// How to run a process. Equal specs run the same process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProcessSpec {
    pub(super) name: String,
    pub(super) command: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) restart: RestartPolicy,
    pub(super) backoff: Duration,
    pub(super) backoff_max: Duration,
    pub(super) restarts_max: u32,
    /// Time between SIGTERM and SIGKILL.
    pub(super) stop_grace: Duration,
    pub(super) log_bytes_max: u64,
    pub(super) log_files: u32,
}

impl TryFrom<&pb::Process> for ProcessSpec {
    type Error = PathError;

    fn try_from(process: &pb::Process) -> Result<Self, PathError> {
        let command = Path::new(&process.command);
        let command = if command.is_absolute() {
            command.to_owned()
        } else {
            checked(&process.command)?
        };
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        let millis = |value, default| Duration::from_millis(or(value, default));
        Ok(Self {
            name: checked_name(&process.name)?.to_owned(),
            command,
            args: process.args.clone(),
            env: process.env.clone().into_iter().collect(),
            restart: match process.restart() {
                RestartPolicy::Unspecified => RestartPolicy::Always,
                policy => policy,
            },
            backoff: millis(process.backoff_ms, 1_000),
            backoff_max: millis(process.backoff_max_ms, 60_000),
            restarts_max: process.restarts_max,
            stop_grace: millis(process.stop_grace_ms, 10_000).min(Duration::from_mins(10)),
            log_bytes_max: or(process.log_bytes_max, 10 * 1024 * 1024),
            log_files: process.log_files.clamp(1, 100),
        })
    }
}

/// A record and how this adapter reads it.
#[derive(Debug, Clone)]
pub(super) struct ManagedProcess {
    pub(super) spec: ProcessSpec,
    record: ProcessRecord,
}

impl ManagedProcess {
    /// Interprets a record.
    pub(super) fn new(record: ProcessRecord) -> Result<Self, PathError> {
        let spec = ProcessSpec::try_from(&record.process)?;
        Ok(Self { spec, record })
    }

    /// Reads the record of a process.
    pub(super) fn load(root: &NodeRoot, name: &str) -> io::Result<Option<Self>> {
        let record = record::load(root, name)?;
        record.map(Self::new).transpose().map_err(io::Error::other)
    }

    /// Writes the record with another desired state.
    pub(super) fn save_as(&mut self, root: &NodeRoot, desired: DesiredState) -> io::Result<()> {
        self.record.desired = desired;
        record::save(root, &self.record)
    }

    /// Whether the process should run.
    pub(super) fn desired(&self) -> DesiredState {
        self.record.desired
    }
}

/// The process that the agent started last. The start time distinguishes it from a later process with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PidRecord {
    pub(super) pid: i32,
    pub(super) start_ticks: u64,
    pub(super) at_ms: i64,
}

/// Writes the pid of a process.
pub(super) fn save_pid(root: &NodeRoot, name: &str, pid: PidRecord) -> io::Result<()> {
    let path = record::path(name, "pid");
    root.write(&path, &serde_json::to_vec(&pid)?, 0o600)
}

/// Reads the last pid of a process.
pub(super) fn load_pid(root: &NodeRoot, name: &str) -> io::Result<Option<PidRecord>> {
    record::read(root, &record::path(name, "pid"))
}

/// The file whose lock the running process holds.
pub(super) fn lock_path(name: &str) -> PathBuf {
    record::path(name, "lock")
}

/// Deletes the files of a process.
pub(super) fn remove_files(root: &NodeRoot, name: &str) -> io::Result<()> {
    record::remove(root, name)?;
    for kind in ["pid", "lock"] {
        root.remove(&record::path(name, kind))?;
    }
    Ok(())
}
