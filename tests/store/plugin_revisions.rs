//! Revisions of plugins: one active, the newest ten kept.

use std::collections::BTreeSet;

use host_domain::ids::RevisionId;
use host_domain::plugin::{Capability, Description, PluginKind};
use host_domain::revision::{Revision, RevisionState};
use host_domain::time::Millis;
use host_store::{Db, StoreError};
use uuid::Uuid;

use super::builders::revision;
use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    a_revision_moves_and_describes_itself(db).await;
    one_revision_is_active(db).await;
    the_oldest_are_forgotten(db).await;
}

async fn stage(db: &Db, revision: &Revision) {
    let mut tx = db.begin().await.unwrap();
    tx.insert_revision(revision).await.unwrap();
    tx.commit().await.unwrap();
}

async fn make_ready(db: &Db, id: RevisionId) {
    use RevisionState as S;
    let mut tx = db.begin().await.unwrap();
    for (seen, to) in [(S::Staged, S::Validated), (S::Validated, S::Ready)] {
        assert!(tx.set_revision_state(id, seen, to, None).await.unwrap());
    }
    tx.commit().await.unwrap();
}

async fn activate(db: &Db, id: RevisionId, at: i64) -> bool {
    let mut tx = db.begin().await.unwrap();
    let active = tx.activate_revision(id, Millis(at)).await.unwrap();
    tx.commit().await.unwrap();
    active
}

async fn found(db: &Db, id: RevisionId) -> Option<Revision> {
    let all = db.list_revisions(None, None, 100).await.unwrap();
    all.into_iter().find(|one| one.id == id)
}

async fn a_revision_moves_and_describes_itself(db: &Db) {
    assert_eq!(
        db.next_generation("anvil-devnet", "progress")
            .await
            .unwrap(),
        1
    );
    let first = revision("progress", 1);
    stage(db, &first).await;
    assert_eq!(found(db, first.id).await, Some(first.clone()));
    assert_eq!(
        db.next_generation("anvil-devnet", "progress")
            .await
            .unwrap(),
        2
    );
    let mut tx = db.begin().await.unwrap();
    let taken = tx.insert_revision(&revision("progress", 1)).await;
    assert!(
        matches!(taken, Err(StoreError::Conflict { .. })),
        "{taken:?}"
    );
    drop(tx);
    let description = Description {
        name: "progress".to_owned(),
        version: "0.1.0".to_owned(),
        kind: PluginKind::HealthPolicy,
        summary: "judges".to_owned(),
        config_schema: "{}".to_owned(),
        wants: BTreeSet::from([Capability::Log]),
        emits: Vec::new(),
        reads: vec!["node.height@delta_5m".to_owned()],
    };
    let mut tx = db.begin().await.unwrap();
    assert!(
        tx.set_revision_description(first.id, &description)
            .await
            .unwrap()
    );
    let (seen, to) = (RevisionState::Staged, RevisionState::Rejected);
    assert!(
        tx.set_revision_state(first.id, seen, to, Some("wrong world"))
            .await
            .unwrap()
    );
    assert!(
        !tx.set_revision_state(first.id, seen, to, None)
            .await
            .unwrap()
    );
    assert!(
        !tx.set_revision_description(RevisionId(Uuid::nil()), &description)
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
    let expected = Revision {
        kind: Some(PluginKind::HealthPolicy),
        description: Some(description),
        state: RevisionState::Rejected,
        reason: Some("wrong world".to_owned()),
        ..first
    };
    assert_eq!(found(db, expected.id).await, Some(expected));
}

async fn one_revision_is_active(db: &Db) {
    let (one, two) = (revision("evm", 1), revision("evm", 2));
    stage(db, &one).await;
    stage(db, &two).await;
    assert!(!activate(db, one.id, 5).await, "it is not ready");
    make_ready(db, one.id).await;
    make_ready(db, two.id).await;
    assert!(activate(db, one.id, 5).await);
    let active = db
        .active_revision("anvil-devnet", "evm")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((active.id, active.activated_at), (one.id, Some(Millis(5))));
    assert!(activate(db, two.id, 6).await);
    assert!(!activate(db, one.id, 7).await, "it is retired");
    assert_eq!(
        db.active_revision("anvil-devnet", "evm")
            .await
            .unwrap()
            .unwrap()
            .id,
        two.id
    );
    assert_eq!(
        found(db, one.id).await.unwrap().state,
        RevisionState::Retired
    );
    assert_eq!(db.active_revision("other", "evm").await.unwrap(), None);
    // Around the switch, the index itself refuses a second one.
    let mut tx = db.begin().await.unwrap();
    let (seen, to) = (RevisionState::Retired, RevisionState::Active);
    let second = tx.set_revision_state(one.id, seen, to, None).await;
    assert!(
        matches!(second, Err(StoreError::Conflict { .. })),
        "{second:?}"
    );
}

async fn the_oldest_are_forgotten(db: &Db) {
    let old = revision("webhook", 1);
    stage(db, &old).await;
    make_ready(db, old.id).await;
    activate(db, old.id, 1).await;
    for generation in 2..=13 {
        stage(db, &revision("webhook", generation)).await;
    }
    let mut tx = db.begin().await.unwrap();
    assert_eq!(
        tx.prune_revisions("anvil-devnet", "webhook", 10)
            .await
            .unwrap(),
        2
    );
    tx.commit().await.unwrap();
    let kept = db
        .list_revisions(Some("anvil-devnet"), None, 100)
        .await
        .unwrap();
    let generations = |plugin: &str| {
        kept.iter()
            .filter(|one| one.plugin == plugin)
            .map(|one| one.generation)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        generations("webhook"),
        [13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 1]
    );
    assert_eq!(generations("evm"), [2, 1]);
    assert_eq!(
        db.list_revisions(None, Some(kept[1].id), 1).await.unwrap(),
        kept[2..3]
    );
    assert_eq!(db.list_revisions(Some("other"), None, 9).await.unwrap(), []);
}
