//! The gate through which every dimension of a node changes: the table, the optimistic lock and the event in one transaction.

use host_domain::event::{Dimension, HealthTransitionEvent};
use host_domain::ids::EventId;
use host_domain::node::{ApplicationHealth, Condition, Node, NodeEvent, Reason, SyncStatus};
use host_domain::time::Millis;
use uuid::Uuid;

use super::OpError;
use super::live::{LiveData, NamedNode, NodeMoved};
use super::subscriptions::end_with_node;
use crate::store::{NodeEventEntry, Tx};

/// What is asked of a node in one transaction; absent parts stay.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Moves the infrastructure's life cycle.
    pub event: Option<NodeEvent>,
    /// Sets what policies say.
    pub application_health: Option<ApplicationHealth>,
    /// Sets whether the node follows its chain.
    pub sync_status: Option<SyncStatus>,
    /// Why; the reasons of the node stay when absent.
    pub reasons: Option<Vec<Reason>>,
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
pub async fn change_node(
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
    if after.state.is_terminal() && !before.state.is_terminal() {
        end_with_node(tx, &changed, now).await?;
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
    let moved = NodeMoved {
        node: NamedNode {
            id: node.id,
            name: node.name.clone(),
        },
        dimension,
        from: from.to_owned(),
        to: to.to_owned(),
        cause: cause.to_owned(),
        display_state: node.condition.display_state().to_owned(),
        reasons: node.reasons.clone(),
    };
    // The stream tells of the transition itself; this row is for whoever asks later what happened to the node.
    tx.append_node_event(&history(&moved, node.updated_at))
        .await?;
    let entry = LiveData::NodeTransition(moved).entry(
        Some(node.id),
        Some(node.chain_profile_id.clone()),
        node.updated_at,
    );
    tx.append_event_log(entry);
    Ok(())
}

/// A transition as a line of the node's history.
fn history(moved: &NodeMoved, at: Millis) -> NodeEventEntry {
    let mut message = format!("{} → {} ({})", moved.from, moved.to, moved.cause);
    for reason in &moved.reasons {
        message.push_str("; ");
        message.push_str(&reason.message);
    }
    NodeEventEntry {
        id: Uuid::now_v7().to_string(),
        node_id: moved.node.id,
        at,
        kind: format!("{}_changed", moved.dimension),
        message,
    }
}
