//! Moves of nodes: changed by one writer at a time, found by node and while they are open.

use host_domain::ids::MachineId;
use host_domain::migration::NodeMigration;
use host_domain::node::Node;
use host_domain::operation::{Operation, OperationKind, OperationState};
use host_domain::time::Millis;
use host_store::{Db, StoreError};

use super::builders::{operation_id, stored_agent, stored_node};
use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    let node = stored_node(db, "moving").await;
    let first = begin(db, &node, 10).await;
    one_of_two_writers_wins(db, &first).await;
    let second = begin(db, &node, 20).await;
    let newest = db.newest_node_migrations(node.id, 2).await.unwrap();
    let order: Vec<_> = newest.iter().map(|row| row.operation_id).collect();
    assert_eq!(order, [second.operation_id, first.operation_id]);
    let newest = db.newest_node_migrations(node.id, 1).await.unwrap();
    assert_eq!(newest, std::slice::from_ref(&second));
    // The first one has ended.
    assert_eq!(db.open_node_migrations(9).await.unwrap(), [second]);
}

async fn begin(db: &Db, node: &Node, at: i64) -> NodeMigration {
    let machine = stored_agent(db, &format!("machine-{at}")).await.machine_id;
    let migration = stored(db, node, (machine, None), at).await;
    let workflow = format!("migrate-node-{}-{at}", node.id);
    let found = db.operation_of_workflow(&workflow).await.unwrap();
    assert_eq!(found.unwrap().id, migration.operation_id);
    assert_eq!(db.operation_of_workflow("none").await.unwrap(), None);
    migration
}

/// A migration that is on its way between two machines.
pub(crate) async fn begin_migration(db: &Db, node: &Node, (from, to): (MachineId, MachineId)) -> NodeMigration {
    stored(db, node, (from, Some(to)), 5).await
}

async fn stored(
    db: &Db,
    node: &Node,
    (source, target): (MachineId, Option<MachineId>),
    at: i64,
) -> NodeMigration {
    let operation = Operation {
        id: operation_id(),
        kind: OperationKind::MigrateNode,
        node_id: node.id,
        workflow_id: format!("migrate-node-{}-{at}", node.id),
        state: OperationState::Running,
        steps: Vec::new(),
        error: None,
        created_at: Millis(at),
        updated_at: Millis(at),
        version: 1,
    };
    let migration = NodeMigration {
        operation_id: operation.id,
        node_id: node.id,
        source,
        target,
        is_forced: at == 20,
        triggered_at: Millis(at),
        fenced: None,
        fenced_at: None,
        ended_at: None,
        has_moved: false,
        version: 1,
    };
    let mut tx = db.begin().await.unwrap();
    tx.insert_operation(&operation).await.unwrap();
    tx.insert_node_migration(&migration).await.unwrap();
    tx.commit().await.unwrap();
    migration
}

async fn one_of_two_writers_wins(db: &Db, made: &NodeMigration) {
    let stored = db.node_migration(made.operation_id).await.unwrap();
    assert_eq!(stored, Some(made.clone()));
    let mut tx = db.begin().await.unwrap();
    assert!(matches!(
        tx.insert_node_migration(made).await,
        Err(StoreError::Conflict { .. })
    ));
    drop(tx);
    let changed = NodeMigration {
        target: Some(made.source),
        fenced: Some(made.source),
        fenced_at: Some(Millis(11)),
        ended_at: Some(Millis(12)),
        has_moved: true,
        ..made.clone()
    };
    for expected in [Some(2), None] {
        let mut tx = db.begin().await.unwrap();
        assert_eq!(tx.update_node_migration(&changed).await.unwrap(), expected);
        tx.commit().await.unwrap();
    }
    let stored = db.node_migration(made.operation_id).await.unwrap();
    assert_eq!(stored, Some(NodeMigration { version: 2, ..changed }));
}
