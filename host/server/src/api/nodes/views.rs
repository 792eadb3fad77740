//! Nodes as the API shows them. Where a node runs is shown to admins only.

use host_domain::heartbeat::ProcessStatus;
use host_domain::time::Millis;
use host_wire::values::time;
use host_wire::{HealthView, NodeEventView, NodeView, PendingHealth, ProcessView};

use crate::ops::{HealthExplanation, NodeDetails, NodeEventRow};

/// The node as a caller may see it.
pub(super) fn node_view(details: NodeDetails, is_admin: bool) -> NodeView {
    let NodeDetails {
        node,
        latest,
        last_heartbeat,
        processes,
    } = details;
    let placement = is_admin.then(|| node.placement.into());
    NodeView {
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
        processes: processes.into_iter().map(process_view).collect(),
        last_heartbeat: last_heartbeat.map(time),
        ports: node.ports,
        binary_versions: node.binary_versions,
        inputs: node.inputs,
        operation_id: node.operation_id.map(|id| id.0),
        placement,
        version: node.state_version,
        created_at: time(node.created_at),
        updated_at: time(node.updated_at),
    }
}

fn process_view(process: ProcessStatus) -> ProcessView {
    ProcessView {
        name: process.name,
        state: process.state.to_string(),
        pid: process.pid,
        restarts: process.restarts,
        started_at: time(Millis(process.started_at_ms)),
    }
}

/// Why the node's health is what it is.
pub(super) fn health_view(explanation: HealthExplanation) -> HealthView {
    let HealthExplanation { node, latest, .. } = explanation;
    let pending = explanation.pending.map(|(health, since)| PendingHealth {
        application_health: health.into(),
        since: time(since),
    });
    HealthView {
        node_id: node.id.0,
        state: node.condition.state.into(),
        application_health: node.condition.application_health.into(),
        sync_status: node.condition.sync_status.into(),
        reasons: explanation.reasons.into_iter().map(Into::into).collect(),
        pending,
        flapping: explanation.flapping,
        consecutive_failures: explanation.consecutive_failures,
        last_heartbeat: explanation.last_heartbeat.map(time),
        observations: latest
            .into_iter()
            .map(|(name, seen)| (name, seen.into()))
            .collect(),
    }
}

/// One event of the node's history.
pub(super) fn node_event_view(row: NodeEventRow) -> NodeEventView {
    NodeEventView {
        id: row.id,
        at: time(row.at),
        kind: row.kind,
        message: row.message,
    }
}
