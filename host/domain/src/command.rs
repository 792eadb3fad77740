//! Commands to agents and their results.

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, CommandId, NodeId};
use crate::text_enum::text_enum;
use crate::time::Millis;

text_enum! {
    /// The state of a command.
    CommandState {
        /// Waits for the agent.
        Queued = "queued",
        /// Sent, not yet acknowledged.
        Delivered = "delivered",
        /// The agent's journal contains it.
        Accepted = "accepted",
        /// Done.
        Succeeded = "succeeded",
        /// Failed; the agent undid its work.
        Failed = "failed",
        /// Failed, and the undo failed too, so a person must act.
        Stuck = "stuck",
    }
}

text_enum! {
    /// What a command does.
    CommandKind {
        /// Creates the node's directory and reserves its ports.
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
    /// Derived from the workflow's id and step, so that a repeated activity finds the existing row.
    pub id: CommandId,
    /// The node that it is about.
    pub node_id: NodeId,
    /// The agent that executes it.
    pub agent_id: AgentId,
    /// What it does.
    pub kind: CommandKind,
    /// The encoded `bellwether.agent.v1.Command`.
    pub payload: Vec<u8>,
    /// Its state.
    pub state: CommandState,
    /// The agent's result.
    pub result: Option<CommandOutcome>,
    /// The workflow that waits for the result.
    pub workflow_id: Option<String>,
    /// The mailbox of that workflow for the message about the result.
    pub mailbox: Option<String>,
    /// When the agent gives up.
    pub deadline: Millis,
    /// When it was queued.
    pub created_at: Millis,
    /// When its state last changed.
    pub updated_at: Millis,
}

/// An agent's result of a command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CommandOutcome {
    /// The step that failed; empty when none did.
    pub step: String,
    /// What went wrong and what to do next.
    pub error: String,
    /// The last lines that the step printed.
    pub output: String,
    /// The node's directory, after `prepare`.
    pub root: Option<String>,
    /// The node's ports, after `prepare`.
    pub ports: std::collections::BTreeMap<String, u16>,
}
