//! Heartbeats and health rows.

use host_domain::health::HealthTrack;
use host_domain::heartbeat::NodeBeat;
use host_domain::ids::NodeId;
use host_domain::node::{ApplicationHealth, NodeState, Reason};
use host_domain::time::Millis;
use host_store::{CountedMisses, Db, FoundHealth, StoreError};
use uuid::Uuid;

use super::builders::{stored_node, stored_node_in};
use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    beats_are_counted_and_the_newest_is_kept(db).await;
    many_beats_are_few_statements(db).await;
    snapshots_join_what_is_known(db).await;
    one_of_two_writers_of_health_wins(db).await;
    policies_judge_only_some_states(db).await;
}

fn beat(node_id: NodeId, at: i64, processes_run: bool) -> NodeBeat {
    NodeBeat {
        node_id,
        at: Millis(at),
        processes_json: format!("[{at}]"),
        processes_run,
    }
}

async fn record(db: &Db, beats: &[NodeBeat]) {
    let mut tx = db.begin().await.unwrap();
    tx.record_beats(beats).await.unwrap();
    tx.commit().await.unwrap();
}

async fn beats_are_counted_and_the_newest_is_kept(db: &Db) {
    let node = stored_node(db, "beats").await.id;
    assert_eq!(db.heartbeat(node).await.unwrap(), None);
    record(db, &[beat(node, 20, false), beat(node, 10, true)]).await;
    // Late and out of order: counted only.
    record(db, &[beat(node, 15, true)]).await;
    record(db, &[]).await;
    let known = db.heartbeat(node).await.unwrap().unwrap();
    assert_eq!((known.last_heartbeat, known.beats), (Millis(20), 3));
    assert_eq!(
        (known.processes_json.as_str(), known.processes_run),
        ("[20]", false)
    );
    let silent = stored_node(db, "beatless").await.id;
    let several = db.heartbeats(&[node, silent]).await.unwrap();
    assert_eq!(several.into_iter().collect::<Vec<_>>(), [(node, known)]);
}

async fn many_beats_are_few_statements(db: &Db) {
    let beats: Vec<_> = (0..2_500)
        .map(|_| beat(NodeId(Uuid::now_v7()), 1, true))
        .collect();
    record(db, &beats).await;
    assert_eq!(
        db.heartbeat(beats[2_499].node_id)
            .await
            .unwrap()
            .unwrap()
            .beats,
        1
    );
}

async fn snapshots_join_what_is_known(db: &Db) {
    let silent = stored_node_in(db, "silent", NodeState::Syncing).await;
    let beating = stored_node_in(db, "beating", NodeState::Healthy).await;
    stored_node_in(db, "maintained", NodeState::Maintenance).await;
    record(db, &[beat(beating.id, 5_000, false)]).await;
    let snapshots = db.heartbeat_snapshots(None, 10).await.unwrap();
    let ids: Vec<_> = snapshots.iter().map(|snapshot| snapshot.node_id).collect();
    assert_eq!(ids, [silent.id, beating.id]);
    let (one, two) = (&snapshots[0], &snapshots[1]);
    assert_eq!(
        (one.last_heartbeat, one.beats, one.processes_run),
        (Millis(1_000), 0, true)
    );
    assert_eq!(
        (two.last_heartbeat, two.beats, two.processes_run),
        (Millis(5_000), 1, false)
    );
    assert_eq!(
        (two.condition, two.state_version, two.health_version),
        (beating.condition, 1, 1)
    );
    let rest = db.heartbeat_snapshots(Some(silent.id), 10).await.unwrap();
    assert_eq!(rest, snapshots[1..]);
    assert_eq!(
        db.heartbeat_snapshots(None, 1).await.unwrap(),
        snapshots[..1]
    );

    let mut tx = db.begin().await.unwrap();
    assert!(tx.expect_beats(beating.id, Millis(7_000)).await.unwrap());
    assert!(
        !tx.expect_beats(NodeId(Uuid::now_v7()), Millis(1))
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
    let moved = db.heartbeat_snapshots(Some(silent.id), 10).await.unwrap();
    assert_eq!(
        (moved[0].last_heartbeat, moved[0].health_version),
        (Millis(7_000), 2)
    );
}

async fn one_of_two_writers_of_health_wins(db: &Db) {
    let node = stored_node(db, "health").await.id;
    let track = HealthTrack {
        health: ApplicationHealth::Ok,
        ..HealthTrack::default()
    };
    let reasons = [Reason::new("fine", "all is well")];
    let judge = async |seen_version| {
        let found = FoundHealth {
            node_id: node,
            seen_version,
            track: &track,
            verdict_reasons: &reasons,
        };
        let mut tx = db.begin().await.unwrap();
        tx.save_health_tracks(&[found]).await?;
        tx.commit().await
    };
    let count = async |seen_version| {
        let counted = CountedMisses {
            node_id: node,
            seen_version,
            consecutive_failures: 2,
            beats_at_miss: 7,
        };
        let mut tx = db.begin().await.unwrap();
        tx.save_misses(&[counted]).await?;
        tx.commit().await
    };
    let (judged, counted) = tokio::join!(judge(1), count(1));
    let late = if judged.is_ok() { &counted } else { &judged };
    assert!(
        matches!(late, Err(StoreError::Raced(id)) if *id == node),
        "{judged:?} {counted:?}"
    );
    count(2).await.unwrap();
    judge(3).await.unwrap();
    let row = db.health_state(node).await.unwrap().unwrap();
    assert_eq!(
        (row.consecutive_failures, row.beats_at_miss, row.version),
        (2, 7, 4)
    );
    assert_eq!((row.track, row.reasons), (track, reasons.to_vec()));
    assert_eq!(row.beats_expected_since, Millis(1_000));
    assert_eq!(db.health_state(NodeId(Uuid::now_v7())).await.unwrap(), None);
}

async fn policies_judge_only_some_states(db: &Db) {
    let degraded = stored_node_in(db, "judged", NodeState::Degraded).await;
    stored_node_in(db, "not-judged", NodeState::Down).await;
    let judged = db.judged_nodes("anvil-devnet", None, 10).await.unwrap();
    let names: Vec<_> = judged.iter().map(|one| one.node.name.as_str()).collect();
    assert_eq!(names, ["silent", "beating", "judged"]);
    assert_eq!(
        (&judged[2].node, &judged[2].track),
        (&degraded, &HealthTrack::default())
    );
    assert_eq!(judged[1].health_version, 2);
    let rest = db
        .judged_nodes("anvil-devnet", Some(judged[1].node.id), 1)
        .await
        .unwrap();
    assert_eq!(rest, judged[2..]);
    assert_eq!(db.judged_nodes("other", None, 10).await.unwrap(), []);
}
