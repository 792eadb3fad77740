//! Operations: long-running work that a client can follow, step by step.

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, OperationId};
use crate::text_enum::text_enum;
use crate::time::Millis;

text_enum! {
    /// The state of an operation.
    OperationState {
        /// The workflow runs.
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
    /// The state of a step.
    StepState {
        /// Not started.
        Pending = "pending",
        /// Running.
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
    /// The workflow's name of the step.
    pub name: String,
    /// Its state.
    pub state: StepState,
    /// Its progress, or its error.
    pub message: String,
    /// The output of its programs, such as a plan; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// The progress within the step from 0 to 1, when known.
    pub fraction: Option<f64>,
    /// When it last changed.
    pub at: Option<Millis>,
}

impl OperationStep {
    /// A step that has not started.
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
        /// Creates a node.
        ProvisionNode = "provision_node",
        /// Removes a node.
        TerminateNode = "terminate_node",
        /// Moves a node to another machine.
        MigrateNode = "migrate_node",
    }
}

/// Long-running work that a client can follow.
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
    /// Its state.
    pub state: OperationState,
    /// Its steps in order.
    pub steps: Vec<OperationStep>,
    /// The error and how to fix it.
    pub error: Option<String>,
    /// When it was requested.
    pub created_at: Millis,
    /// When it last changed.
    pub updated_at: Millis,
    /// Optimistic lock.
    pub version: i64,
}

impl Operation {
    /// The progress over all steps from 0 to 1: finished steps, and the share of the running one.
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
