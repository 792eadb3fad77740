//! Heartbeats: what an agent regularly reports about a node's processes.

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;
use crate::text_enum::text_enum;
use crate::time::Millis;

text_enum! {
    /// The state of a process.
    ProcessState {
        /// The process runs.
        Running = "running",
        /// A user or an operation stopped it.
        Stopped = "stopped",
        /// It waits for the next restart.
        BackingOff = "backing_off",
        /// Its restart policy gave up.
        Failed = "failed",
    }
}

/// A process of a node at its newest heartbeat. The database stores it as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Its name in the recipe.
    pub name: String,
    /// Its state.
    pub state: ProcessState,
    /// Its process id on the machine.
    pub pid: u32,
    /// Restarts since it was installed.
    pub restarts: u32,
    /// When it was last started.
    pub started_at_ms: i64,
}

/// One heartbeat of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeBeat {
    /// The node.
    pub node_id: NodeId,
    /// When the host received it.
    pub at: Millis,
    /// The node's processes: a JSON list of [`ProcessStatus`].
    pub processes_json: String,
    /// Whether each of them runs.
    pub processes_run: bool,
}
