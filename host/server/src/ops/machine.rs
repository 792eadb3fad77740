//! The gate through which every dimension of a node changes: the table, the optimistic lock and the event in one transaction.

use host_domain::event::{Dimension, HealthTransitionEvent};
use host_domain::ids::EventId;
use host_domain::node::{ApplicationHealth, Condition, Node, NodeEvent, Reason, SyncStatus};
use host_domain::time::Millis;
use serde_json::json;
use uuid::Uuid;

use super::OpError;
use crate::store::{NewLogEntry, Tx};

/// What is asked of a node in one transaction; absent parts stay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    /// Moves the infrastructure's life cycle.
    pub(crate) event: Option<NodeEvent>,
    /// Sets what policies say.
    pub(crate) application_health: Option<ApplicationHealth>,
    /// Sets whether the node follows its chain.
    pub(crate) sync_status: Option<SyncStatus>,
    /// Why; the reasons of the node stay when absent.
    pub(crate) reasons: Option<Vec<Reason>>,
}

impl Change {
    /// Only a move of the life cycle.
    pub(crate) fn event(event: NodeEvent) -> Self {
        Self {
            event: Some(event),
            ..Self::default()
        }
    }
}

/// Applies a change to a node that was read before; writes one outbox row per dimension that moved.
/// [`OpError::Stale`] when somebody was faster.
pub(crate) async fn change_node(
    tx: &mut Tx,
    node: &Node,
    change: Change,
    now: Millis,
) -> Result<Node, OpError> {
    let before = node.condition;
    let mut after = Condition {
        application_health: change
            .application_health
            .unwrap_or(before.application_health),
        sync_status: change.sync_status.unwrap_or(before.sync_status),
        ..before
    };
    if let Some(event) = change.event {
        after = after.after(event)?;
    }
    let reasons = change.reasons.unwrap_or_else(|| node.reasons.clone());
    let version = tx
        .set_condition(node.id, node.state_version, after, &reasons, now)
        .await?
        .ok_or_else(|| OpError::stale("node", node.id))?;
    let changed = Node {
        condition: after,
        reasons,
        state_version: version,
        updated_at: now,
        ..node.clone()
    };
    let cause = change.event.map_or("verdict", NodeEvent::as_str);
    for dimension in moved(before, after) {
        record(tx, &changed, dimension, before, cause).await?;
    }
    Ok(changed)
}

fn moved(before: Condition, after: Condition) -> impl Iterator<Item = Dimension> {
    [
        (before.state != after.state, Dimension::State),
        (
            before.application_health != after.application_health,
            Dimension::ApplicationHealth,
        ),
        (
            before.sync_status != after.sync_status,
            Dimension::SyncStatus,
        ),
    ]
    .into_iter()
    .filter_map(|(has_moved, dimension)| has_moved.then_some(dimension))
}

async fn record(
    tx: &mut Tx,
    node: &Node,
    dimension: Dimension,
    before: Condition,
    cause: &str,
) -> Result<(), OpError> {
    let event = HealthTransitionEvent {
        id: EventId(Uuid::now_v7()),
        node_id: node.id,
        node_name: node.name.clone(),
        chain_profile_id: node.chain_profile_id.clone(),
        node_type: node.node_type.clone(),
        dimension,
        before,
        after: node.condition,
        cause: cause.to_owned(),
        reasons: node.reasons.clone(),
        state_version: node.state_version,
        at: node.updated_at,
    };
    tx.insert_outbox(&event).await?;
    let (from, to) = match dimension {
        Dimension::State => (before.state.as_str(), node.condition.state.as_str()),
        Dimension::ApplicationHealth => (
            before.application_health.as_str(),
            node.condition.application_health.as_str(),
        ),
        Dimension::SyncStatus => (
            before.sync_status.as_str(),
            node.condition.sync_status.as_str(),
        ),
    };
    let data = json!({
        "node": { "id": node.id, "name": node.name },
        "dimension": dimension, "from": from, "to": to, "cause": cause,
        "display_state": node.condition.display_state(), "reasons": node.reasons,
    });
    tx.append_event_log(NewLogEntry {
        kind: "node_transition".to_owned(),
        node_id: Some(node.id),
        chain: Some(node.chain_profile_id.clone()),
        at: node.updated_at,
        payload: data,
    });
    Ok(())
}
