//! The node state machine: the only code that changes a dimension of a node. Row, optimistic lock and event are one transaction.

use host_domain::event::{Dimension, HealthTransitionEvent};
use host_domain::ids::EventId;
use host_domain::node::{
    ApplicationHealth, Condition, IllegalTransition, Node, NodeEvent, Reason, SyncStatus,
};
use host_domain::time::Millis;
use uuid::Uuid;

use super::OpError;
use super::live::{LiveData, NamedNode, NodeMoved};
use super::subscriptions::end_with_node;
use host_store::{NewCondition, NodeEventEntry, Tx};

/// A change of a node in one transaction; absent parts stay as they are.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The event of the infrastructure's life cycle.
    pub event: Option<NodeEvent>,
    /// Sets what policies say.
    pub application_health: Option<ApplicationHealth>,
    /// Sets whether the node follows its chain.
    pub sync_status: Option<SyncStatus>,
    /// Why; the reasons of the node stay when absent.
    pub reasons: Option<Vec<Reason>>,
}

impl Change {
    /// Only a step of the life cycle.
    pub(crate) fn event(event: NodeEvent) -> Self {
        Self {
            event: Some(event),
            ..Self::default()
        }
    }
}

/// Applies a change to a node that was read before; writes one outbox row per dimension that moved.
/// [`OpError::Stale`] if the node changed since then.
pub async fn change_node(
    tx: &mut Tx,
    node: &Node,
    change: Change,
    now: Millis,
) -> Result<Node, OpError> {
    let transition = Transition::of(node, change, now)?;
    apply(tx, std::slice::from_ref(&transition), now).await?;
    Ok(transition.after)
}

/// As [`change_node`], for several nodes at once and each of them once: all are changed or none is. It takes as many
/// statements as one change does.
pub async fn change_nodes(
    tx: &mut Tx,
    changes: impl IntoIterator<Item = (&Node, Change)>,
    now: Millis,
) -> Result<Vec<Node>, OpError> {
    let transitions = changes
        .into_iter()
        .map(|(node, change)| Transition::of(node, change, now))
        .collect::<Result<Vec<_>, _>>()?;
    apply(tx, &transitions, now).await?;
    Ok(transitions.into_iter().map(|one| one.after).collect())
}

/// A change that the table allows.
struct Transition<'a> {
    before: &'a Node,
    after: Node,
    cause: &'static str,
}

impl<'a> Transition<'a> {
    fn of(node: &'a Node, change: Change, now: Millis) -> Result<Self, IllegalTransition> {
        let before = node.condition;
        let judged = Condition {
            application_health: change
                .application_health
                .unwrap_or(before.application_health),
            sync_status: change.sync_status.unwrap_or(before.sync_status),
            ..before
        };
        let condition = match change.event {
            Some(event) => judged.after(event)?,
            None => judged,
        };
        let after = Node {
            condition,
            reasons: change.reasons.unwrap_or_else(|| node.reasons.clone()),
            state_version: node.state_version + 1,
            updated_at: now,
            ..node.clone()
        };
        Ok(Self {
            before: node,
            after,
            cause: change.event.map_or("verdict", NodeEvent::as_str),
        })
    }

    fn new_condition(&self) -> NewCondition<'_> {
        NewCondition {
            node_id: self.before.id,
            seen_version: self.before.state_version,
            condition: self.after.condition,
            reasons: &self.after.reasons,
            at: self.after.updated_at,
        }
    }

    /// One per dimension that moved.
    fn events(&self) -> impl Iterator<Item = HealthTransitionEvent> {
        let (before, node) = (self.before.condition, &self.after);
        moved(before, node.condition).map(move |dimension| HealthTransitionEvent {
            id: EventId(Uuid::now_v7()),
            node_id: node.id,
            node_name: node.name.clone(),
            chain_profile_id: node.chain_profile_id.clone(),
            node_type: node.node_type.clone(),
            dimension,
            before,
            after: node.condition,
            cause: self.cause.to_owned(),
            reasons: node.reasons.clone(),
            state_version: node.state_version,
            at: node.updated_at,
        })
    }

    fn ends_node(&self) -> bool {
        self.after.condition.state.is_terminal() && !self.before.condition.state.is_terminal()
    }
}

async fn apply(tx: &mut Tx, transitions: &[Transition<'_>], now: Millis) -> Result<(), OpError> {
    let conditions: Vec<_> = transitions.iter().map(Transition::new_condition).collect();
    tx.set_conditions(&conditions).await?;
    let events: Vec<_> = transitions.iter().flat_map(Transition::events).collect();
    tx.insert_outbox(&events).await?;
    let moves: Vec<_> = events.iter().map(node_moved).collect();
    // The stream tells of the transition itself; these rows are for whoever asks later what happened to the node.
    let lines: Vec<_> = moves.iter().map(|moved| history(moved, now)).collect();
    tx.append_node_events(&lines).await?;
    for (event, moved) in events.into_iter().zip(moves) {
        let (id, chain) = (event.node_id, event.chain_profile_id);
        tx.append_event_log(LiveData::NodeTransition(moved).entry(Some(id), Some(chain), now));
    }
    for ended in transitions.iter().filter(|one| one.ends_node()) {
        // Boxed: every caller would carry it, and nodes end once.
        Box::pin(end_with_node(tx, &ended.after, now)).await?;
    }
    Ok(())
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

fn node_moved(event: &HealthTransitionEvent) -> NodeMoved {
    let (before, after) = (event.before, event.after);
    let (from, to) = match event.dimension {
        Dimension::State => (before.state.as_str(), after.state.as_str()),
        Dimension::ApplicationHealth => (
            before.application_health.as_str(),
            after.application_health.as_str(),
        ),
        Dimension::SyncStatus => (before.sync_status.as_str(), after.sync_status.as_str()),
    };
    NodeMoved {
        node: NamedNode {
            id: event.node_id,
            name: event.node_name.clone(),
        },
        dimension: event.dimension,
        from: from.to_owned(),
        to: to.to_owned(),
        cause: event.cause.clone(),
        display_state: after.display_state().to_owned(),
        reasons: event.reasons.clone(),
    }
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
