//! Nodes as the API shows them. Where a node runs is shown to admins only.

use std::collections::BTreeMap;

use host_domain::command::Command;
use host_domain::health::Sample;
use host_domain::heartbeat::ProcessStatus;
use host_domain::time::Millis;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::wire::{
    self, ApplicationHealth, CommandKind, CommandState, Measured, NodeState, Reason, SyncStatus,
    Value,
};
use crate::ops::{HealthExplanation, NodeDetails, NodeEventRow};

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

impl NodeView {
    /// The node as a caller may see it.
    pub(crate) fn of(details: NodeDetails, is_admin: bool) -> Self {
        let NodeDetails {
            node,
            latest,
            last_heartbeat,
            processes,
        } = details;
        let placement = is_admin.then(|| node.placement.into());
        Self {
            id: node.id.0,
            name: node.name,
            chain: node.chain_profile_id,
            node_type: node.node_type,
            display_state: node.condition.display_state().to_owned(),
            state: node.condition.state.into(),
            sync_status: node.condition.sync_status.into(),
            application_health: node.condition.application_health.into(),
            reasons: node.reasons.into_iter().map(Into::into).collect(),
            observations: latest
                .into_iter()
                .map(|(name, seen)| (name, seen.into()))
                .collect(),
            processes: processes.into_iter().map(Into::into).collect(),
            last_heartbeat: last_heartbeat.map(wire::time),
            ports: node.ports,
            binary_versions: node.binary_versions,
            inputs: node.inputs,
            operation_id: node.operation_id.map(|id| id.0),
            placement,
            version: node.state_version,
            created_at: wire::time(node.created_at),
            updated_at: wire::time(node.updated_at),
        }
    }
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

impl From<ProcessStatus> for ProcessView {
    fn from(process: ProcessStatus) -> Self {
        Self {
            name: process.name,
            state: process.state.to_string(),
            pid: process.pid,
            restarts: process.restarts,
            started_at: wire::time(Millis(process.started_at_ms)),
        }
    }
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

impl From<HealthExplanation> for HealthView {
    fn from(explanation: HealthExplanation) -> Self {
        let HealthExplanation { node, latest, .. } = explanation;
        let pending = explanation.pending.map(|(health, since)| PendingHealth {
            application_health: health.into(),
            since: wire::time(since),
        });
        Self {
            node_id: node.id.0,
            state: node.condition.state.into(),
            application_health: node.condition.application_health.into(),
            sync_status: node.condition.sync_status.into(),
            reasons: explanation.reasons.into_iter().map(Into::into).collect(),
            pending,
            flapping: explanation.flapping,
            consecutive_failures: explanation.consecutive_failures,
            last_heartbeat: explanation.last_heartbeat.map(wire::time),
            observations: latest
                .into_iter()
                .map(|(name, seen)| (name, seen.into()))
                .collect(),
        }
    }
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

impl From<NodeEventRow> for NodeEventView {
    fn from(row: NodeEventRow) -> Self {
        Self {
            id: row.id,
            at: wire::time(row.at),
            kind: row.kind,
            message: row.message,
        }
    }
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
            created_at: wire::time(command.created_at),
            updated_at: wire::time(command.updated_at),
            deadline: wire::time(command.deadline),
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
            at: wire::time(sample.at),
            value: wire::value(sample.value),
        }
    }
}
