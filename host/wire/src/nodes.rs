//! Nodes, their health, commands and observations in JSON.

use std::collections::BTreeMap;

use host_domain::command::Command;
use host_domain::health::Sample;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::operations::OperationView;
use crate::values::{Measured, Reason, Value, time, value};
use crate::words::{ApplicationHealth, CommandKind, CommandState, NodeState, SyncStatus};

/// Which nodes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NodesQuery {
    /// Chain profile id.
    pub chain: Option<String>,
    /// Infrastructure state.
    #[param(inline)]
    pub state: Option<NodeState>,
    /// What is shown, such as `critical`.
    pub display: Option<String>,
    /// Exact name.
    pub name: Option<String>,
}

/// What a new node shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateNodeRequest {
    /// Chain profile id, such as `anvil-devnet`.
    pub chain: String,
    /// One of the profile's node types; the only one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_type: Option<String>,
    /// For people, unique among living nodes; made up when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One of the node type's providers; its first when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// One of the provider's regions; its default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Values of the profile's inputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
}

/// The node, and the operation that works on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeAccepted {
    /// The node.
    pub node_id: uuid::Uuid,
    /// Its name.
    pub name: String,
    /// The operation to wait for.
    pub operation: OperationView,
}

/// How a node is removed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TerminateQuery {
    /// Whether its keys are copied once more before anything is done to it; it stays as it is when that fails.
    #[serde(default)]
    pub backup_keys: bool,
}

/// How a node is moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrateNodeRequest {
    /// Whether it is moved although its region's breaker is open or it was moved a moment ago.
    #[serde(default)]
    pub force: bool,
}

/// Which values, and from when.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SeriesQuery {
    /// Dotted name, such as `node.height`.
    pub name: String,
    /// Not before; an hour before `to` when absent.
    pub from: Option<Timestamp>,
    /// Not after; now when absent.
    pub to: Option<Timestamp>,
    /// At most so many of the newest values, 1 to 5,000; 500 when absent.
    pub limit: Option<u32>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Node)]
pub struct NodeView {
    /// UUID v7.
    pub id: Uuid,
    /// For people; unique among living nodes.
    pub name: String,
    /// Chain profile id.
    pub chain: String,
    /// One of the chain's node types.
    pub node_type: String,
    /// What to show: infrastructure first, then application health, then sync.
    pub display_state: String,
    /// Infrastructure life cycle.
    pub state: NodeState,
    /// Whether it follows its chain.
    pub sync_status: SyncStatus,
    /// What health policies say.
    pub application_health: ApplicationHealth,
    /// Why its health is what it is.
    pub reasons: Vec<Reason>,
    /// The newest value of each observation.
    pub observations: BTreeMap<String, Measured>,
    /// Its processes, as its agent last said.
    pub processes: Vec<ProcessView>,
    /// The newest heartbeat.
    pub last_heartbeat: Option<Timestamp>,
    /// Ports by name.
    pub ports: BTreeMap<String, u16>,
    /// Versions by binary name.
    pub binary_versions: BTreeMap<String, String>,
    /// Values of the profile's inputs.
    pub inputs: BTreeMap<String, String>,
    /// The operation that made it, or that is removing it.
    pub operation_id: Option<Uuid>,
    /// Where it runs; for admins only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<PlacementView>,
    /// Rises with each change; the same as in the `ETag`.
    pub version: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its state, health or sync last changed.
    pub updated_at: Timestamp,
}

/// Where a node runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Placement)]
pub struct PlacementView {
    /// Provider.
    pub provider: String,
    /// The provider's instance type.
    pub instance_type: String,
    /// The provider's region.
    pub region: String,
    /// The host, when there is one.
    pub machine_id: Option<Uuid>,
    /// Its address.
    pub machine_ip: Option<String>,
}

impl From<host_domain::node::Placement> for PlacementView {
    fn from(placement: host_domain::node::Placement) -> Self {
        Self {
            provider: placement.provider,
            instance_type: placement.instance_type,
            region: placement.region,
            machine_id: placement.machine_id.map(|id| id.0),
            machine_ip: placement.machine_ip,
        }
    }
}

/// A process of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Process)]
pub struct ProcessView {
    /// Its name in the recipe.
    pub name: String,
    /// `running`, `stopped`, `backing_off` or `failed`.
    pub state: String,
    /// Its process id on the host.
    pub pid: u32,
    /// Restarts since it was installed.
    pub restarts: u32,
    /// When it was last started.
    pub started_at: Timestamp,
}

/// Why a node's health is what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = HealthExplanation)]
pub struct HealthView {
    /// The node.
    pub node_id: Uuid,
    /// Infrastructure life cycle.
    pub state: NodeState,
    /// What counts now.
    pub application_health: ApplicationHealth,
    /// Whether it follows its chain.
    pub sync_status: SyncStatus,
    /// Reasons of the newest verdict.
    pub reasons: Vec<Reason>,
    /// A health that is seen but has not held long enough to count.
    pub pending: Option<PendingHealth>,
    /// Whether it is held at its worst because it changes too often.
    pub flapping: bool,
    /// Evaluations in a row that found a heartbeat missed.
    pub consecutive_failures: u32,
    /// The newest heartbeat.
    pub last_heartbeat: Option<Timestamp>,
    /// The newest observations.
    pub observations: BTreeMap<String, Measured>,
}

/// A health that does not count yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingHealth {
    /// What is seen.
    pub application_health: ApplicationHealth,
    /// Since when.
    pub since: Timestamp,
}

/// Something that happened to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = NodeEvent)]
pub struct NodeEventView {
    /// UUID v7.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// Stable kind, such as `process_restarted`.
    pub kind: String,
    /// For people.
    pub message: String,
}

/// A command to a node's agent. What it carries is not shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Command)]
pub struct CommandView {
    /// The agent's journal has the same id.
    pub id: Uuid,
    /// What it does.
    pub kind: CommandKind,
    /// Where it stands.
    pub state: CommandState,
    /// The step that failed.
    pub failed_step: Option<String>,
    /// What went wrong and what to do next.
    pub error: Option<String>,
    /// The last lines that the step printed.
    pub output: Option<String>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
    /// When the agent gives up.
    pub deadline: Timestamp,
}

impl From<Command> for CommandView {
    fn from(command: Command) -> Self {
        let outcome = command.result.unwrap_or_default();
        let said = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            id: command.id.0,
            kind: command.kind.into(),
            state: command.state.into(),
            failed_step: said(outcome.step),
            error: said(outcome.error),
            output: said(outcome.output),
            created_at: time(command.created_at),
            updated_at: time(command.updated_at),
            deadline: time(command.deadline),
        }
    }
}

/// One value of a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Sample)]
pub struct SampleView {
    /// When it was measured.
    pub at: Timestamp,
    /// The value; `null` when the source had none.
    pub value: Option<Value>,
}

impl From<Sample> for SampleView {
    fn from(sample: Sample) -> Self {
        Self {
            at: time(sample.at),
            value: value(sample.value),
        }
    }
}
