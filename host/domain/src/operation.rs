//! Operations: long work that a client can wait for, step by step.

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, OperationId};
use crate::text_enum::text_enum;
use crate::time::Millis;

text_enum! {
    /// Where an operation stands.
    OperationState {
        /// At work.
        Running = "running",
        /// A failure or a cancel is being undone.
        Undoing = "undoing",
        /// Done.
        Succeeded = "succeeded",
        /// Failed and undone.
        Failed = "failed",
        /// Cancelled and undone.
        Cancelled = "cancelled",
    }
}

impl OperationState {
    /// Whether nothing more will happen.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

text_enum! {
    /// Where a step stands.
    StepState {
        /// Not begun.
        Pending = "pending",
        /// At work.
        Running = "running",
        /// Done.
        Done = "done",
        /// Failed.
        Failed = "failed",
        /// Done, and undone since.
        Undone = "undone",
    }
}

/// One step of an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationStep {
    /// The workflow's name of it.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// What it is doing, or what went wrong.
    pub message: String,
    /// What its programs said, such as a plan; empty when nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// 0 to 1 within the step, when it can tell.
    pub fraction: Option<f64>,
    /// When it last changed.
    pub at: Option<Millis>,
}

impl OperationStep {
    /// A step that has not begun.
    pub fn pending(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: StepState::Pending,
            message: String::new(),
            output: String::new(),
            fraction: None,
            at: None,
        }
    }
}

text_enum! {
    /// What an operation does.
    OperationKind {
        /// Makes a node.
        ProvisionNode = "provision_node",
        /// Removes a node.
        TerminateNode = "terminate_node",
        /// Moves a node to another host.
        MigrateNode = "migrate_node",
    }
}

/// Long work that a client can wait for.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// UUID v7.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// The node that it works on.
    pub node_id: NodeId,
    /// The workflow that does it, such as `provision-<node id>`.
    pub workflow_id: String,
    /// Where it stands.
    pub state: OperationState,
    /// Its steps in order.
    pub steps: Vec<OperationStep>,
    /// What went wrong and what to do next.
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: Millis,
    /// When it last changed.
    pub updated_at: Millis,
    /// Optimistic lock.
    pub version: i64,
}

impl Operation {
    /// 0 to 1 over all steps: finished steps, and the share of the one at work.
    #[expect(clippy::cast_precision_loss, reason = "an operation has a dozen steps")]
    pub fn progress(&self) -> f64 {
        if self.state == OperationState::Succeeded {
            return 1.0;
        }
        let done: f64 = self
            .steps
            .iter()
            .map(|step| match step.state {
                StepState::Done => 1.0,
                StepState::Running => step.fraction.unwrap_or(0.0).clamp(0.0, 1.0),
                StepState::Pending | StepState::Failed | StepState::Undone => 0.0,
            })
            .sum();
        if self.steps.is_empty() {
            0.0
        } else {
            done / self.steps.len() as f64
        }
    }
}
