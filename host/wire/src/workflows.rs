//! Workflows and their histories in JSON.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::operations::OperationView;

/// Where a workflow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowState {
    /// At work.
    Running,
    /// Ended well.
    Completed,
    /// Ended with a failure.
    Failed,
}

/// Which workflows.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WorkflowsQuery {
    /// One state.
    #[param(inline)]
    pub state: Option<WorkflowState>,
}

/// A workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Workflow)]
pub struct WorkflowView {
    /// Its id.
    pub id: String,
    /// What it does, such as `migrate-node`.
    pub kind: String,
    /// The version of its code.
    pub version: String,
    /// Where it stands.
    pub state: WorkflowState,
    /// When it was started.
    pub started_at: Timestamp,
    /// When anything last happened in it.
    pub updated_at: Timestamp,
}

/// A workflow, and what it works on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = WorkflowDetails)]
pub struct WorkflowDetailsView {
    /// The workflow.
    pub workflow: WorkflowView,
    /// The node that it works on.
    pub node_id: Option<Uuid>,
    /// The operation that shows how far it is.
    pub operation: Option<OperationView>,
}

/// One thing that happened in a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = HistoryEntry)]
pub struct HistoryView {
    /// The execution in which it happened, from 1.
    pub execution: u64,
    /// Its place in that execution.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What, in the engine's words, such as `ActivityScheduled`.
    pub event: String,
    /// The details, as the engine keeps them.
    pub detail: String,
}
