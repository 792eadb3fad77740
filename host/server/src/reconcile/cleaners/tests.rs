//! Rounds on a real database.

use host_domain::operation::OperationState;
use host_domain::time::Millis;

use super::*;
use crate::test_bed::Bed;

/// Four hours and a minute.
const LONG_S: i64 = 4 * 3_600 + 60;

async fn provisioning(bed: &Bed) -> Result<(), OpError> {
    let cleaner = ProvisioningCleaner {
        engine: bed.services.engine.clone(),
        nodes: bed.services.nodes(bed.records.clone()),
    };
    cleaner.round(&bed.records).await
}

async fn state(bed: &Bed, node: &Node) -> NodeState {
    bed.records
        .db
        .node(node.id)
        .await
        .unwrap()
        .unwrap()
        .condition
        .state
}

#[tokio::test]
async fn a_node_that_is_forgotten_in_maintenance_comes_back_or_is_told_of() {
    let bed = Bed::new().await;
    let (alive, silent) = (
        bed.node(NodeState::Maintenance).await,
        bed.node(NodeState::Maintenance).await,
    );
    for node in [&alive, &silent] {
        bed.beat(node).await;
    }
    assert!(
        !bed.commits(maintenance(
            &bed.records,
            &bed.services.chains,
            &bed.services.config.health
        ))
        .await,
        "it is by plan"
    );
    bed.wait(LONG_S);
    bed.beat(&alive).await;
    maintenance(
        &bed.records,
        &bed.services.chains,
        &bed.services.config.health,
    )
    .await
    .unwrap();
    assert_eq!(state(&bed, &alive).await, NodeState::Syncing);
    assert_eq!(state(&bed, &silent).await, NodeState::Maintenance);
    let told = bed.incidents().await;
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0].key.category, category::AGENT_SILENT);
    assert_eq!(told[0].key.subject_id, silent.id.to_string());
    assert!(
        !bed.commits(maintenance(
            &bed.records,
            &bed.services.chains,
            &bed.services.config.health
        ))
        .await,
        "told is told"
    );

    bed.beat(&silent).await;
    maintenance(
        &bed.records,
        &bed.services.chains,
        &bed.services.config.health,
    )
    .await
    .unwrap();
    assert_eq!(state(&bed, &silent).await, NodeState::Syncing);
    assert_eq!(bed.incidents().await[0].state, IncidentState::Resolved);
}

#[tokio::test]
async fn a_half_made_node_has_a_workflow_that_works_on_it_or_is_removed() {
    let (bed, engine) = Bed::with_engine().await;
    let orphan = bed.operation("orphan", OperationState::Failed).await;
    for (workflow, status) in [
        ("at work", StatusKind::Running),
        ("ended", StatusKind::Failed),
    ] {
        bed.operation(workflow, OperationState::Running).await;
        engine.set(workflow, status, Millis(0));
    }
    provisioning(&bed).await.unwrap();
    assert_eq!(engine.asked(), Vec::<String>::new(), "they have just begun");
    bed.wait(601);
    provisioning(&bed).await.unwrap();
    let removal = format!("start terminate-{}", orphan.node_id);
    assert_eq!(engine.asked(), [&*removal, "delete ended", "start ended"]);
}
