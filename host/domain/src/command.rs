//! Commands to agents and what became of them.

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, CommandId, NodeId};
use crate::text_enum::text_enum;
use crate::time::Millis;

text_enum! {
    /// Where a command stands.
    CommandState {
        /// Waits for the agent.
        Queued = "queued",
        /// Sent, not yet acknowledged.
        Delivered = "delivered",
        /// In the agent's journal.
        Accepted = "accepted",
        /// Done.
        Succeeded = "succeeded",
        /// Failed, and what it had done is undone.
        Failed = "failed",
        /// Failed, and undoing failed too: a person must look.
        Stuck = "stuck",
    }
}

text_enum! {
    /// What a command does.
    CommandKind {
        /// Makes the node's folder and reserves its ports.
        Prepare = "prepare",
        /// Runs the recipe.
        Install = "install",
        /// Starts the processes.
        Start = "start",
        /// Stops the processes.
        Stop = "stop",
        /// Stops and starts the processes.
        Restart = "restart",
        /// Stops the processes and removes everything.
        Uninstall = "uninstall",
    }
}

/// One command to an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Made from the workflow's id and step, so that a repeated activity finds the row that it made before.
    pub id: CommandId,
    /// The node that it is about.
    pub node_id: NodeId,
    /// Who executes it.
    pub agent_id: AgentId,
    /// What it does.
    pub kind: CommandKind,
    /// The encoded `bellwether.agent.v1.Command`.
    pub payload: Vec<u8>,
    /// Where it stands.
    pub state: CommandState,
    /// What the agent said in the end.
    pub result: Option<CommandOutcome>,
    /// The workflow that waits for the result.
    pub workflow_id: Option<String>,
    /// The mailbox of that workflow which is told of the result.
    pub mailbox: Option<String>,
    /// When the agent gives up.
    pub deadline: Millis,
    /// When it was queued.
    pub created_at: Millis,
    /// When its state last changed.
    pub updated_at: Millis,
}

/// What an agent said of a command in the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CommandOutcome {
    /// The step that failed; empty when none did.
    pub step: String,
    /// What went wrong and what to do next.
    pub error: String,
    /// The last lines that the step printed.
    pub output: String,
    /// The node's folder, after `prepare`.
    pub root: Option<String>,
    /// The node's ports, after `prepare`.
    pub ports: std::collections::BTreeMap<String, u16>,
}
