//! Rounds on a real database: who is moved, who is not, and what an operator hears.

use std::time::Duration;

use host_domain::agent::{Agent, Machine};
use host_domain::ids::{AgentId, MachineId};
use host_domain::migration::NodeMigration;
use host_domain::node::Placement;
use uuid::Uuid;

use super::*;
use crate::test_bed::Bed;

/// Six minutes: longer than the grace.
const LONG_S: i64 = 360;

/// A machine with an agent that beats now.
async fn machine(bed: &Bed, name: &str) -> (MachineId, AgentId) {
    let now = bed.records.now();
    let machine = Machine {
        id: MachineId(Uuid::now_v7()),
        name: name.to_owned(),
        provider: "byo".to_owned(),
        region: "byo".to_owned(),
        ip: None,
        created_at: now,
    };
    let agent = Agent {
        id: AgentId(Uuid::now_v7()),
        machine_id: machine.id,
        name: name.to_owned(),
        version: "1".to_owned(),
        certificate_not_after: now.plus(Duration::from_hours(1)),
        last_seen_at: Some(now),
        revoked_at: None,
        created_at: now,
    };
    let mut tx = bed.records.db.begin().await.unwrap();
    tx.insert_machine(&machine).await.unwrap();
    tx.insert_agent(&agent).await.unwrap();
    tx.commit().await.unwrap();
    (machine.id, agent.id)
}

async fn node_on(bed: &Bed, machine: MachineId, state: NodeState) -> Node {
    let node = bed.node(state).await;
    let placement = Placement {
        provider: "local".to_owned(),
        region: "here".to_owned(),
        machine_id: Some(machine),
        ..Placement::default()
    };
    let mut tx = bed.records.db.begin().await.unwrap();
    tx.set_placement(node.id, &placement).await.unwrap();
    tx.commit().await.unwrap();
    node
}

async fn round(bed: &Bed) -> Result<(), OpError> {
    Migrator::of(&bed.services).round(&bed.records).await
}

async fn beats(bed: &Bed, agent: AgentId) {
    let mut tx = bed.records.db.begin().await.unwrap();
    tx.touch_agents(&[(agent, bed.records.now())])
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn moves(bed: &Bed) -> Vec<NodeMigration> {
    round(bed).await.unwrap();
    bed.records.db.open_node_migrations(9).await.unwrap()
}

async fn open(bed: &Bed) -> Vec<String> {
    let incidents = bed.incidents().await.into_iter();
    let open = incidents.filter(|incident| incident.state != IncidentState::Resolved);
    open.map(|incident| incident.key.category).collect()
}

#[tokio::test]
async fn a_node_that_stays_down_is_moved_once_and_only_after_the_grace() {
    let bed = Bed::new().await;
    let (old, _) = machine(&bed, "old").await;
    let (new, agent) = machine(&bed, "new").await;
    let node = node_on(&bed, old, NodeState::Down).await;
    for _ in 0..8 {
        node_on(&bed, new, NodeState::Healthy).await;
    }
    bed.wait(200);
    beats(&bed, agent).await;
    assert_eq!(moves(&bed).await, [], "it may come back by itself");
    bed.wait(LONG_S);
    beats(&bed, agent).await;
    let begun = moves(&bed).await;
    assert_eq!(begun.len(), 1);
    assert_eq!((begun[0].node_id, begun[0].source), (node.id, old));
    assert!(!bed.commits(round(&bed)).await, "it is on its way");
    assert_eq!(moves(&bed).await, begun);
    assert_eq!(open(&bed).await, Vec::<String>::new());
}

#[tokio::test]
async fn nobody_is_moved_while_a_third_of_a_region_is_silent_and_an_operator_is_told_once() {
    let bed = Bed::new().await;
    let (old, _) = machine(&bed, "old").await;
    let (_, agent) = machine(&bed, "new").await;
    let mut nodes = Vec::new();
    for number in 0..9 {
        let state = if number < 3 {
            NodeState::Down
        } else {
            NodeState::Healthy
        };
        nodes.push(node_on(&bed, old, state).await);
    }
    bed.wait(LONG_S);
    beats(&bed, agent).await;
    for _ in 0..3 {
        assert_eq!(moves(&bed).await, [], "3 of 9 are more than 30 %");
    }
    assert_eq!(open(&bed).await, ["migration_held"]);
    assert_eq!(bed.incidents().await[0].occurrences, 1);
    assert!(!bed.commits(round(&bed)).await, "told is told");

    // One comes back: the others move, and the outage is over.
    let mut tx = bed.records.db.begin().await.unwrap();
    let event = host_domain::node::NodeEvent::BeatsResumed;
    let change = crate::ops::Change::event(event);
    crate::ops::change_node(&mut tx, &nodes[0], change, bed.records.now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(moves(&bed).await.len(), 2);
    assert_eq!(open(&bed).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_node_that_nobody_can_take_is_told_of_once_and_moved_when_somebody_can() {
    let bed = Bed::new().await;
    let (old, _) = machine(&bed, "old").await;
    let (_, agent) = machine(&bed, "silent").await;
    node_on(&bed, old, NodeState::Down).await;
    bed.wait(LONG_S);
    for _ in 0..2 {
        assert_eq!(moves(&bed).await, []);
    }
    assert_eq!(open(&bed).await, ["migration_failed"]);
    assert!(!bed.commits(round(&bed)).await, "told is told");
    beats(&bed, agent).await;
    assert_eq!(moves(&bed).await.len(), 1);
}

#[tokio::test]
async fn a_node_is_left_alone_for_an_hour_after_a_migration() {
    let bed = Bed::new().await;
    let (old, _) = machine(&bed, "old").await;
    let (_, agent) = machine(&bed, "new").await;
    let node = node_on(&bed, old, NodeState::Down).await;
    bed.wait(LONG_S);
    beats(&bed, agent).await;
    let begun = moves(&bed).await.remove(0);
    let now = bed.records.now();
    let mut tx = bed.records.db.begin().await.unwrap();
    let ended = NodeMigration {
        ended_at: Some(now),
        ..begun.clone()
    };
    tx.update_node_migration(&ended).await.unwrap();
    let mut operation = tx.operation(begun.operation_id).await.unwrap().unwrap();
    operation.state = host_domain::operation::OperationState::Failed;
    tx.update_operation(&operation).await.unwrap();
    tx.expect_beats(node.id, now).await.unwrap();
    tx.commit().await.unwrap();
    bed.wait(3_500);
    beats(&bed, agent).await;
    assert_eq!(moves(&bed).await, [], "within the hour");
    bed.wait(100);
    beats(&bed, agent).await;
    let again = moves(&bed).await.remove(0);
    assert_ne!(again.operation_id, begun.operation_id);
    let first = bed
        .records
        .db
        .operation(begun.operation_id)
        .await
        .unwrap()
        .unwrap();
    let second = bed
        .records
        .db
        .operation(again.operation_id)
        .await
        .unwrap()
        .unwrap();
    assert_ne!(
        first.workflow_id, second.workflow_id,
        "another silence is another workflow"
    );
}
