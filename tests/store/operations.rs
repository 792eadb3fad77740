//! Operations: changed by one writer at a time.

use host_domain::node::Node;
use host_domain::operation::{Operation, OperationKind, OperationState, OperationStep, StepState};
use host_domain::time::Millis;
use host_store::{Db, OperationFilter, StoreError};

use super::builders::{operation_id, stored_node};
use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    let node = stored_node(db, "node").await;
    let first = one_of_two_writers_wins(db, &node).await;
    lists_filter_and_go_on(db, &node, &first).await;
}

fn operation(node: &Node) -> Operation {
    Operation {
        id: operation_id(),
        kind: OperationKind::ProvisionNode,
        node_id: node.id,
        workflow_id: format!("provision-{}", node.id),
        state: OperationState::Running,
        steps: vec![
            OperationStep::pending("prepare"),
            OperationStep::pending("install"),
        ],
        error: None,
        created_at: Millis(1),
        updated_at: Millis(1),
        version: 1,
    }
}

async fn insert(db: &Db, operation: &Operation) {
    let mut tx = db.begin().await.unwrap();
    tx.insert_operation(operation).await.unwrap();
    tx.commit().await.unwrap();
}

async fn update(db: &Db, to: &Operation) -> Option<i64> {
    let mut tx = db.begin().await.unwrap();
    let version = tx.update_operation(to).await.unwrap();
    tx.commit().await.unwrap();
    version
}

async fn one_of_two_writers_wins(db: &Db, node: &Node) -> Operation {
    let made = operation(node);
    insert(db, &made).await;
    assert_eq!(db.operation(made.id).await.unwrap(), Some(made.clone()));
    let mut tx = db.begin().await.unwrap();
    assert!(matches!(
        tx.insert_operation(&made).await,
        Err(StoreError::Conflict { .. })
    ));
    drop(tx);
    let mut changed = Operation {
        state: OperationState::Failed,
        error: Some("no such version".to_owned()),
        updated_at: Millis(5),
        ..made.clone()
    };
    changed.steps[0].state = StepState::Done;
    changed.steps[0].fraction = Some(0.5);
    let (one, two) = tokio::join!(update(db, &changed), update(db, &changed));
    assert_eq!(
        [one, two].into_iter().flatten().collect::<Vec<_>>(),
        vec![2]
    );
    changed.version = 2;
    assert_eq!(db.operation(made.id).await.unwrap(), Some(changed.clone()));
    assert_eq!(update(db, &operation(node)).await, None);
    changed
}

async fn lists_filter_and_go_on(db: &Db, node: &Node, failed: &Operation) {
    let (second, third) = (operation(node), operation(node));
    insert(db, &second).await;
    insert(db, &third).await;
    let all = OperationFilter {
        node: Some(node.id),
        ..OperationFilter::default()
    };
    let newest = db.list_operations(&all, None, 2).await.unwrap();
    assert_eq!(newest, [third.clone(), second.clone()]);
    let rest = db.list_operations(&all, Some(second.id), 2).await.unwrap();
    assert_eq!(rest.as_slice(), std::slice::from_ref(failed));
    let over = OperationFilter {
        state: Some(OperationState::Failed),
        ..OperationFilter::default()
    };
    let found = db.list_operations(&over, None, 9).await.unwrap();
    assert_eq!(found.as_slice(), std::slice::from_ref(failed));
    assert_eq!(
        db.open_operations(node.id, 9).await.unwrap(),
        [second, third]
    );
}
