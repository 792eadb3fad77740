//! Nouns to store: valid, small, and different where a test needs them to be.

use std::collections::BTreeMap;
use std::time::Duration;

use host_domain::agent::{Agent, Machine};
use host_domain::event::{Dimension, HealthTransitionEvent};
use host_domain::ids::{
    AgentId, EventId, IncidentId, MachineId, NodeId, NotificationId, OperationId, RevisionId,
    SubscriptionId,
};
use host_domain::incident::{Incident, IncidentKey, IncidentState, Severity, SubjectKind};
use host_domain::node::{Condition, Node, NodeState, Placement, Reason};
use host_domain::notification::{DeliveryState, Notification, NotificationStatus};
use host_domain::plugin::{Grants, Limits};
use host_domain::revision::{Revision, RevisionState, RevisionTerms};
use host_domain::subscription::{Subscription, SubscriptionState};
use host_domain::time::Millis;
use host_store::Db;
use uuid::Uuid;

pub(crate) fn node(name: &str) -> Node {
    Node {
        id: NodeId(Uuid::now_v7()),
        subscription_id: SubscriptionId(Uuid::now_v7()),
        name: name.to_owned(),
        chain_profile_id: "anvil-devnet".to_owned(),
        node_type: "full".to_owned(),
        condition: Condition::NEW,
        reasons: vec![Reason::new("new", "it's \"new\" \u{1f41b}")],
        placement: Placement {
            provider: "local".to_owned(),
            ..Placement::default()
        },
        ports: BTreeMap::from([("rpc".to_owned(), 8545)]),
        binary_versions: BTreeMap::new(),
        inputs: BTreeMap::from([("moniker".to_owned(), "a".to_owned())]),
        operation_id: None,
        state_version: 1,
        created_at: Millis(1_000),
        updated_at: Millis(1_000),
    }
}

/// A stored node.
pub(crate) async fn stored_node(db: &Db, name: &str) -> Node {
    let node = node(name);
    let mut tx = db.begin().await.unwrap();
    tx.insert_node(&node).await.unwrap();
    tx.commit().await.unwrap();
    node
}

/// A stored node in a state.
pub(crate) async fn stored_node_in(db: &Db, name: &str, state: NodeState) -> Node {
    let node = Node {
        condition: Condition {
            state,
            ..Condition::NEW
        },
        ..node(name)
    };
    let mut tx = db.begin().await.unwrap();
    tx.insert_node(&node).await.unwrap();
    tx.commit().await.unwrap();
    node
}

pub(crate) fn machine(name: &str) -> Machine {
    Machine {
        id: MachineId(Uuid::now_v7()),
        name: name.to_owned(),
        provider: "local".to_owned(),
        region: "here".to_owned(),
        ip: Some("127.0.0.1".to_owned()),
        created_at: Millis(1),
    }
}

pub(crate) fn agent(machine: &Machine) -> Agent {
    Agent {
        id: AgentId(Uuid::now_v7()),
        machine_id: machine.id,
        name: "agent".to_owned(),
        version: "0.1.0".to_owned(),
        certificate_not_after: Millis(9_000),
        last_seen_at: None,
        revoked_at: None,
        created_at: Millis(1),
    }
}

/// A stored agent on a stored machine.
pub(crate) async fn stored_agent(db: &Db, name: &str) -> Agent {
    let machine = machine(name);
    let agent = agent(&machine);
    let mut tx = db.begin().await.unwrap();
    tx.insert_machine(&machine).await.unwrap();
    tx.insert_agent(&agent).await.unwrap();
    tx.commit().await.unwrap();
    agent
}

pub(crate) fn event(node: &Node, state_version: i64) -> HealthTransitionEvent {
    HealthTransitionEvent {
        id: EventId(Uuid::now_v7()),
        node_id: node.id,
        node_name: node.name.clone(),
        chain_profile_id: node.chain_profile_id.clone(),
        node_type: node.node_type.clone(),
        dimension: Dimension::State,
        before: node.condition,
        after: node.condition,
        cause: "installed".to_owned(),
        reasons: Vec::new(),
        state_version,
        at: Millis(10),
    }
}

pub(crate) fn incident(subject: &str) -> Incident {
    Incident {
        id: IncidentId(Uuid::now_v7()),
        key: IncidentKey {
            subject_kind: SubjectKind::Node,
            subject_id: subject.to_owned(),
            category: "node_down".to_owned(),
        },
        subject_name: subject.to_owned(),
        labels: BTreeMap::from([("chain".to_owned(), "anvil-devnet".to_owned())]),
        severity: Severity::Critical,
        state: IncidentState::Open,
        title: "down".to_owned(),
        reasons: vec![Reason::new("beats_missed", "silent")],
        occurrences: 1,
        opened_at: Millis(1),
        updated_at: Millis(1),
        acknowledged_by: None,
        resolved_at: None,
        version: 1,
    }
}

/// A stored incident.
pub(crate) async fn stored_incident(db: &Db, subject: &str) -> Incident {
    let incident = incident(subject);
    let mut tx = db.begin().await.unwrap();
    tx.insert_incident(&incident).await.unwrap();
    tx.commit().await.unwrap();
    incident
}

pub(crate) fn notification(
    group: &str,
    status: NotificationStatus,
    incidents: &[IncidentId],
) -> Notification {
    Notification {
        id: NotificationId(Uuid::now_v7()),
        route: "all".to_owned(),
        receiver: "hook".to_owned(),
        group_key: group.to_owned(),
        status,
        incident_ids: incidents.to_vec(),
        state: DeliveryState::Pending,
        due_at: Millis(100),
        attempts: 0,
        outcome: None,
        created_at: Millis(50),
        finished_at: None,
    }
}

pub(crate) fn revision(plugin: &str, generation: i64) -> Revision {
    Revision {
        id: RevisionId(Uuid::now_v7()),
        scope: "anvil-devnet".to_owned(),
        plugin: plugin.to_owned(),
        kind: None,
        generation,
        digest: "sha256:00".to_owned(),
        terms: RevisionTerms {
            config: serde_json::json!({"window": "5m"}),
            grants: Grants::default(),
            limits: Limits::default(),
        },
        description: None,
        state: RevisionState::Staged,
        reason: None,
        created_at: Millis(1),
        activated_at: None,
    }
}

pub(crate) fn operation_id() -> OperationId {
    OperationId(Uuid::now_v7())
}

/// One of thirty days that waits for its payment.
pub(crate) fn subscription(owner: &str) -> Subscription {
    Subscription {
        id: SubscriptionId(Uuid::now_v7()),
        owner: owner.to_owned(),
        chain_profile_id: "anvil-devnet".to_owned(),
        node_type: "full".to_owned(),
        provider: "local".to_owned(),
        region: "here".to_owned(),
        instance_type: "x".to_owned(),
        inputs: BTreeMap::from([("moniker".to_owned(), "a".to_owned())]),
        duration: Some(Duration::from_hours(30 * 24)),
        state: SubscriptionState::PendingPayment,
        payment_id: None,
        expires_at: None,
        entered_at: Millis(1_000),
        created_at: Millis(1_000),
        updated_at: Millis(1_000),
        version: 1,
    }
}
