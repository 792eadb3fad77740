//! What is refused of a last copy of keys, and that it costs nothing.

use host_domain::node::NodeState;
use host_domain::operation::{Operation, OperationKind};
use tempfile::TempDir;

use super::*;
use crate::ops::node_making::new_operation;
use crate::ops::save_operation;
use crate::test_bed::Bed;
use host_domain::node::Node;
use host_domain::operation::OperationState;
use host_keys::BackupConfig;
use host_keys::KeyBackup;

async fn bed() -> (Bed, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let config: BackupConfig = serde_yaml::from_str(&format!("url: {url}")).unwrap();
    let backup = KeyBackup::open(&config).unwrap();
    (Bed::with_backup(Some(backup)).await, folder)
}

async fn ask(bed: &Bed, node: &Node, backup_keys: bool) -> Result<Operation, OpError> {
    let who = Principal::host();
    bed.ops
        .nodes
        .terminate(&who, node.id, None, backup_keys)
        .await
}

fn refusal(outcome: Result<Operation, OpError>) -> String {
    match outcome {
        Err(OpError::Conflict(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_repeat_gets_the_removal_that_copies_keys() {
    let (bed, _folder) = bed().await;
    let node = bed.node(NodeState::Healthy).await;
    let begun = ask(&bed, &node, true).await.unwrap();
    assert!(backs_up_keys(&begun));
    for backup_keys in [true, false] {
        assert_eq!(ask(&bed, &node, backup_keys).await.unwrap().id, begun.id);
    }
}

#[tokio::test]
async fn a_removal_that_copies_no_keys_is_not_taken_for_one_that_does() {
    let (bed, _folder) = bed().await;
    let node = bed.node(NodeState::Healthy).await;
    let begun = ask(&bed, &node, false).await.unwrap();
    let why = refusal(ask(&bed, &node, true).await);
    assert!(why.contains(&begun.id.to_string()), "{why}");
}

#[tokio::test]
async fn a_node_that_is_still_being_made_is_not_undone_when_its_keys_are_wanted() {
    let (bed, _folder) = bed().await;
    let node = bed.node(NodeState::Provisioning).await;
    let making = new_operation(
        &node,
        OperationKind::ProvisionNode,
        "provision-x".to_owned(),
        host_workflows::provision_node::STEPS,
        node.created_at,
    );
    let mut tx = bed.records.db.begin().await.unwrap();
    tx.insert_operation(&making).await.unwrap();
    tx.set_operation(node.id, Some(making.id)).await.unwrap();
    tx.commit().await.unwrap();

    let why = refusal(ask(&bed, &node, true).await);
    assert!(why.contains("still being made"), "{why}");
    let after = bed.records.db.operation(making.id).await.unwrap().unwrap();
    assert_eq!(after.state, making.state, "it goes on");
    assert_eq!(
        ask(&bed, &node, false).await.unwrap().state,
        OperationState::Undoing
    );
}

#[tokio::test]
async fn a_termination_that_failed_before_it_did_anything_keeps_nobody_from_the_next() {
    let (bed, _folder) = bed().await;
    let node = bed.node(NodeState::Healthy).await;
    let begun = ask(&bed, &node, true).await.unwrap();
    let now = node.created_at;
    let mut tx = bed.records.db.begin().await.unwrap();
    let failed = Operation {
        state: OperationState::Failed,
        ..begun.clone()
    };
    save_operation(&mut tx, failed, now).await.unwrap();
    let node = tx.node(node.id).await.unwrap().unwrap();
    let who = Principal::host();
    // A repeat of the request under its key gets what became of it.
    let repeat = RemovalRequest {
        after_failure: AfterFailure::Keep,
        backup_keys: true,
    };
    let removal = begin_removal(&mut tx, &who, &node, repeat, now).await;
    assert!(matches!(removal, Ok(Removal::InProgress(found)) if found.id == begun.id));
    let removal = begin_removal(&mut tx, &who, &node, RemovalRequest::BY_HOST, now).await;
    let Removal::Started(next) = removal.unwrap() else {
        panic!("it stands")
    };
    assert_ne!(next.workflow_id, begun.workflow_id);
}
