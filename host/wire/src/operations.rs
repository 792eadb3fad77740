//! Operations and their steps in JSON.

use host_domain::operation::{Operation, OperationStep};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::values::time;
use crate::words::{OperationKind, OperationState, StepState};

/// Which operations.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OperationsQuery {
    /// The operations of one node, by its id.
    pub node: Option<Uuid>,
    /// One state.
    #[param(inline)]
    pub state: Option<OperationState>,
}

/// How long to wait.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// Answer when the operation is over, or after this time, at most `30s`; at once when absent.
    #[param(example = "30s")]
    pub wait: Option<String>,
}

/// Long work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Operation)]
pub struct OperationView {
    /// UUID v7.
    pub id: Uuid,
    /// What it does.
    pub kind: OperationKind,
    /// The node that it works on.
    pub node_id: Uuid,
    /// Where it stands.
    pub state: OperationState,
    /// 0 to 1 over all steps.
    pub progress: f64,
    /// Its steps in order.
    pub steps: Vec<StepView>,
    /// What went wrong and what to do next.
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl OperationView {
    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        host_domain::operation::OperationState::from(self.state).is_over()
    }
}

impl From<Operation> for OperationView {
    fn from(operation: Operation) -> Self {
        Self {
            progress: operation.progress(),
            id: operation.id.0,
            kind: operation.kind.into(),
            node_id: operation.node_id.0,
            state: operation.state.into(),
            steps: operation.steps.into_iter().map(Into::into).collect(),
            error: operation.error,
            created_at: time(operation.created_at),
            updated_at: time(operation.updated_at),
        }
    }
}

/// One step of an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Step)]
pub struct StepView {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// What it is doing, or what went wrong.
    pub message: String,
    /// What its programs said, such as a plan; empty when nothing.
    pub output: String,
    /// 0 to 1 within the step, when it can tell.
    pub fraction: Option<f64>,
    /// When it last changed.
    pub at: Option<Timestamp>,
}

impl From<OperationStep> for StepView {
    fn from(step: OperationStep) -> Self {
        Self {
            name: step.name,
            state: step.state.into(),
            message: step.message,
            output: step.output,
            fraction: step.fraction,
            at: step.at.map(time),
        }
    }
}
