//! Terminates a node: stops and removes whatever exists of it; each step tolerates that it is gone already.
//!
//! A termination can't be cancelled, because a partial termination has no use. It fails when an agent does not remove
//! the node; then the node is `failed` with that leftover, unless `force` says that the machine is gone anyway. A
//! last backup of the keys comes first, so that nothing was done to the node when the backup fails.

use std::time::Duration;

use host_domain::ids::NodeId;
use host_domain::time::duration_text;
use serde::{Deserialize, Serialize};

use crate::activity::Activity;
use crate::command::run_undo_command;
use crate::error::{Failure, FlowError, Leftover};
use crate::flow::Flow;
use crate::node_activities::{
    BackUpKeys, CommandAction, CommandStatus, DestroyMachine, FailOperation, MarkFailed,
    MarkTerminated, MarkTerminating, NodeRef, ReportStep, RetireKeys, SendCommand, StepState,
    WithdrawCommand,
};
use crate::provision_node::{close_failed, mark_failed, report};
use crate::workflow::Workflow;

/// The steps of the operation in order.
pub const STEPS: &[&str] = &[
    BACK_UP_KEYS,
    "mark_terminating",
    "stop",
    "uninstall",
    "destroy_machine",
    "retire_keys",
    "mark_terminated",
];

/// The step that runs only on request.
pub const BACK_UP_KEYS: &str = "back_up_keys";

/// The steps with or without a last backup of the node's keys.
pub fn steps(backup_keys: bool) -> Vec<&'static str> {
    let steps = STEPS.iter().copied();
    steps
        .filter(|step| backup_keys || *step != BACK_UP_KEYS)
        .collect()
}

/// The workflow's id: a repeated request finds the same termination.
pub fn workflow_id(node_id: NodeId) -> String {
    format!("terminate-{node_id}")
}

/// The input of a termination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminateInput {
    /// Version of this struct.
    pub version: u16,
    /// The node and its operation.
    #[serde(flatten)]
    pub node: NodeRef,
    /// The time limit for stopping the processes.
    #[serde(with = "duration_text")]
    pub stop: Duration,
    /// The time limit for removing the node.
    #[serde(with = "duration_text")]
    pub uninstall: Duration,
    /// Continues when the agent can't remove the node, because the machine is known to be gone.
    pub force: bool,
    /// Backs up the keys first; when that fails, the node stays unchanged.
    pub backup_keys: bool,
}

impl TerminateInput {
    /// An input of the current version with the default limits.
    pub fn new(node: NodeRef) -> Self {
        Self {
            version: 1,
            node,
            stop: Duration::from_mins(2),
            uninstall: Duration::from_mins(10),
            force: false,
            backup_keys: false,
        }
    }
}

/// The result of a termination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminated {
    /// What stayed behind because of `force`.
    pub leftovers: Vec<Leftover>,
}

/// The termination workflow.
pub struct TerminateNode;

impl Workflow for TerminateNode {
    const KIND: &'static str = "terminate-node";
    const VERSION: &'static str = "1.0.0";
    const ACTIVITIES: &'static [&'static str] = &[
        ReportStep::NAME,
        MarkTerminating::NAME,
        SendCommand::NAME,
        CommandStatus::NAME,
        WithdrawCommand::NAME,
        DestroyMachine::NAME,
        BackUpKeys::NAME,
        RetireKeys::NAME,
        MarkTerminated::NAME,
        MarkFailed::NAME,
        FailOperation::NAME,
    ];
    type Input = TerminateInput;
    type Output = Terminated;

    async fn run(flow: Flow, input: TerminateInput) -> Result<Terminated, Failure> {
        let flow = flow.shielded();
        if input.backup_keys {
            back_up_keys(&flow, input.node).await?;
        }
        let mut step = "mark_terminating";
        let mut leftovers = Vec::new();
        let removed = remove(&flow, &input, &mut step, &mut leftovers).await;
        let ended = match removed {
            Ok(()) => end(&flow, &input, &mut step, &mut leftovers).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => Ok(Terminated { leftovers }),
            Err(error) => {
                let failure = Failure {
                    leftovers,
                    ..error.at(step)
                };
                Err(mark_failed(&flow, input.node, failure).await)
            }
        }
    }
}

async fn back_up_keys(flow: &Flow, node: NodeRef) -> Result<(), Failure> {
    let begun = String::new();
    report(flow, node, BACK_UP_KEYS, StepState::Started, begun).await;
    let Err(error) = flow.activity(BackUpKeys, &node).await else {
        return Ok(());
    };
    let failure = error.at(BACK_UP_KEYS);
    Err(close_failed(flow, FailOperation, node, failure).await)
}

async fn remove(
    flow: &Flow,
    input: &TerminateInput,
    step: &mut &'static str,
    leftovers: &mut Vec<Leftover>,
) -> Result<(), FlowError> {
    let node = input.node;
    begin(flow, node, step, "mark_terminating").await;
    flow.activity(MarkTerminating, &node).await?;

    // Removing stops the processes too, so a failed stop only costs the node its clean shutdown.
    begin(flow, node, step, "stop").await;
    if let Err(error) = run_undo_command(flow, node, CommandAction::Stop, input.stop).await {
        report(flow, node, "stop", StepState::UndoFailed, error.to_string()).await;
    }

    begin(flow, node, step, "uninstall").await;
    if let Err(error) =
        run_undo_command(flow, node, CommandAction::Uninstall, input.uninstall).await
    {
        leftovers.push(Leftover {
            undo: "uninstall".to_owned(),
            message: error.to_string(),
        });
        if !input.force {
            return Err(error);
        }
    }

    Ok(())
}

async fn end(
    flow: &Flow,
    input: &TerminateInput,
    step: &mut &'static str,
    leftovers: &mut Vec<Leftover>,
) -> Result<(), FlowError> {
    let node = input.node;
    begin(flow, node, step, "destroy_machine").await;
    if let Err(error) = flow.activity(DestroyMachine, &node).await {
        leftovers.push(Leftover {
            undo: "destroy_machine".to_owned(),
            message: error.to_string(),
        });
        if !input.force {
            return Err(error);
        }
    }
    begin(flow, node, step, "retire_keys").await;
    flow.activity(RetireKeys, &node).await?;
    begin(flow, node, step, "mark_terminated").await;
    flow.activity(MarkTerminated, &node).await
}

async fn begin(flow: &Flow, node: NodeRef, step: &mut &'static str, name: &'static str) {
    *step = name;
    report(flow, node, name, StepState::Started, String::new()).await;
}

#[cfg(test)]
mod tests;
