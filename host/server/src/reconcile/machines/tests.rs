//! Rounds on a real database: what a node left behind is given back, or an operator is told once.

use host_domain::agent::Machine;
use host_domain::ids::{MachineId, OperationId};
use host_domain::incident::{IncidentState, category};
use host_domain::migration::NodeMigration;
use host_domain::node::{Node, NodeState, Placement};
use host_domain::operation::{Operation, OperationKind, OperationState};
use uuid::Uuid;

use super::*;
use crate::test_bed::Bed;

async fn round(bed: &Bed) -> Result<(), OpError> {
    let cleaner = MachineCleaner::of(&bed.services);
    cleaner.round(&bed.records).await
}

async fn machine(bed: &Bed, name: &str) -> MachineId {
    let machine = Machine {
        id: MachineId(Uuid::now_v7()),
        name: name.to_owned(),
        provider: "local".to_owned(),
        region: "here".to_owned(),
        ip: None,
        created_at: bed.records.now(),
    };
    let mut tx = bed.records.db.begin().await.unwrap();
    tx.insert_machine(&machine).await.unwrap();
    tx.commit().await.unwrap();
    machine.id
}

/// Puts a node of a provider on a machine, and lets it claim both.
async fn place(bed: &Bed, node: &Node, provider: &str, on: MachineId, claims: &[MachineId]) {
    let placement = Placement {
        provider: provider.to_owned(),
        machine_id: Some(on),
        ..Placement::default()
    };
    let mut tx = bed.records.db.begin().await.unwrap();
    tx.set_placement(node.id, &placement).await.unwrap();
    for machine in claims {
        let now = bed.records.now();
        assert!(tx.claim_machine(*machine, node.id, now).await.unwrap());
    }
    tx.commit().await.unwrap();
}

async fn is_claimed(bed: &Bed, machine: MachineId) -> bool {
    bed.records
        .db
        .machine_claim(machine)
        .await
        .unwrap()
        .is_some()
}

#[tokio::test]
async fn a_machine_that_a_failed_node_left_behind_is_given_back_or_told_of_once() {
    let bed = Bed::new().await;
    let (machine, working) = (machine(&bed, "left").await, machine(&bed, "at-work").await);
    let failed = bed.node(NodeState::Failed).await;
    place(&bed, &failed, "unknown", machine, &[machine]).await;
    let live = bed.node(NodeState::Healthy).await;
    place(&bed, &live, "local", working, &[working]).await;

    round(&bed).await.unwrap();
    assert!(is_claimed(&bed, machine).await, "nobody can clean it");
    let told = bed.incidents().await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].key.category, category::MACHINE_LEFT_BEHIND);
    assert!(
        told[0].reasons[0].message.contains("is not configured"),
        "{told:?}"
    );
    assert!(!bed.commits(round(&bed)).await, "not before its pause");
    bed.wait(61);
    round(&bed).await.unwrap();
    assert_eq!(bed.incidents().await[0].occurrences, 1);

    // What was missing is there again.
    place(&bed, &failed, "local", machine, &[]).await;
    bed.wait(121);
    round(&bed).await.unwrap();
    assert!(!is_claimed(&bed, machine).await);
    let node = bed.records.db.node(failed.id).await.unwrap().unwrap();
    assert_eq!(node.placement.machine_id, None);
    assert_eq!(bed.incidents().await[0].state, IncidentState::Resolved);
    assert!(
        is_claimed(&bed, working).await,
        "what is in use is left alone"
    );
}

#[tokio::test]
async fn the_machine_that_a_node_has_left_is_given_back_only_when_its_migration_is_over() {
    let bed = Bed::new().await;
    let (old, new) = (machine(&bed, "old").await, machine(&bed, "new").await);
    let node = bed.node(NodeState::Healthy).await;
    place(&bed, &node, "local", new, &[old, new]).await;
    let migration = begin(&bed, &node, old, new).await;
    round(&bed).await.unwrap();
    assert!(is_claimed(&bed, old).await, "it may have to go back");

    let ended = NodeMigration {
        ended_at: Some(bed.records.now()),
        has_moved: true,
        ..migration
    };
    let mut tx = bed.records.db.begin().await.unwrap();
    tx.update_node_migration(&ended).await.unwrap();
    tx.commit().await.unwrap();
    round(&bed).await.unwrap();
    assert!(!is_claimed(&bed, old).await);
    assert!(is_claimed(&bed, new).await, "the node is on it");
    let node = bed.records.db.node(node.id).await.unwrap().unwrap();
    assert_eq!(node.placement.machine_id, Some(new));
}

async fn begin(bed: &Bed, node: &Node, source: MachineId, target: MachineId) -> NodeMigration {
    let now = bed.records.now();
    let operation = Operation {
        id: OperationId(Uuid::now_v7()),
        kind: OperationKind::MigrateNode,
        node_id: node.id,
        workflow_id: format!("migrate-node-{}", node.id),
        state: OperationState::Running,
        steps: Vec::new(),
        error: None,
        created_at: now,
        updated_at: now,
        version: 1,
    };
    let migration = NodeMigration {
        operation_id: operation.id,
        node_id: node.id,
        source,
        target: Some(target),
        is_forced: false,
        triggered_at: now,
        fenced: None,
        fenced_at: None,
        ended_at: None,
        has_moved: false,
        version: 1,
    };
    let mut tx = bed.records.db.begin().await.unwrap();
    tx.insert_operation(&operation).await.unwrap();
    tx.insert_node_migration(&migration).await.unwrap();
    tx.commit().await.unwrap();
    migration
}
