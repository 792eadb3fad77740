//! Observations: idempotent, ordered, bounded.

use host_domain::health::Sample;
use host_domain::ids::NodeId;
use host_domain::observation::{Observation, Scalar};
use host_domain::time::Millis;
use host_store::Db;
use uuid::Uuid;

use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    a_repeat_changes_nothing(db).await;
    every_kind_of_value_comes_back(db).await;
    windows_are_bounded_per_series(db).await;
    the_old_is_pruned_and_the_newest_value_stays(db).await;
}

fn new_node() -> NodeId {
    NodeId(Uuid::now_v7())
}

fn height(node: NodeId, at: i64, value: i64) -> (NodeId, Observation) {
    let name = "node.height".to_owned();
    (
        node,
        Observation {
            name,
            value: Scalar::Int(value),
            at: Millis(at),
        },
    )
}

async fn insert(db: &Db, observed: &[(NodeId, Observation)]) -> u64 {
    let mut tx = db.begin().await.unwrap();
    let n_new = tx.insert_observations(observed).await.unwrap();
    tx.commit().await.unwrap();
    n_new
}

async fn a_repeat_changes_nothing(db: &Db) {
    let node = new_node();
    let batch = [
        height(node, 2, 20),
        height(node, 1, 10),
        height(node, 3, 30),
        height(node, 3, 99),
    ];
    assert_eq!(insert(db, &batch).await, 3);
    assert_eq!(insert(db, &batch).await, 0);
    assert_eq!(insert(db, &[]).await, 0);
    let samples = db
        .samples(node, "node.height", Millis(1), Millis(9), 9)
        .await
        .unwrap();
    let expected: Vec<_> = [(1, 10), (2, 20), (3, 30)]
        .map(|(at, value)| Sample {
            at: Millis(at),
            value: Scalar::Int(value),
        })
        .into();
    assert_eq!(samples, expected);
    assert_eq!(
        db.samples(node, "node.height", Millis(2), Millis(9), 1)
            .await
            .unwrap(),
        expected[1..2]
    );
    assert_eq!(
        db.samples(node, "node.peers", Millis(0), Millis(9), 9)
            .await
            .unwrap(),
        []
    );
    // What comes late is kept, and does not count as the newest.
    assert_eq!(insert(db, &[height(node, 0, 5)]).await, 1);
    let latest = db.latest_observations(&[node, new_node()]).await.unwrap();
    assert_eq!(latest.len(), 1);
    assert_eq!(latest[&node]["node.height"], height(node, 3, 30).1);
}

async fn every_kind_of_value_comes_back(db: &Db) {
    let node = new_node();
    let values = [
        Scalar::Absent,
        Scalar::Flag(true),
        Scalar::Int(i64::MIN),
        Scalar::Real(0.1),
        Scalar::Text("q\"uote\0".to_owned()),
    ];
    let observed: Vec<_> = (1..)
        .zip(&values)
        .map(|(at, value)| {
            (
                node,
                Observation {
                    name: "x.y".to_owned(),
                    value: value.clone(),
                    at: Millis(at),
                },
            )
        })
        .collect();
    insert(db, &observed).await;
    insert(
        db,
        &[(
            node,
            Observation {
                name: "x.y".to_owned(),
                value: Scalar::Real(f64::NAN),
                at: Millis(9),
            },
        )],
    )
    .await;
    let samples = db
        .samples(node, "x.y", Millis(0), Millis(10), 10)
        .await
        .unwrap();
    let back: Vec<_> = samples.into_iter().map(|sample| sample.value).collect();
    assert_eq!(back, [&values[..], &[Scalar::Absent]].concat());
}

async fn windows_are_bounded_per_series(db: &Db) {
    let (one, two, other) = (new_node(), new_node(), new_node());
    let mut observed: Vec<_> = (0..1_200).map(|at| height(one, at, at)).collect();
    observed.extend((0..3).map(|at| height(two, at, at)));
    observed.push(height(other, 5, 5));
    let silent = new_node();
    observed.extend([height(silent, -9, 1), height(silent, -8, 2)]);
    assert_eq!(insert(db, &observed).await, 1_206);
    let windows = db
        .windows(
            &[one, two, silent],
            &["node.height", "node.peers"],
            Millis(1),
            10,
        )
        .await
        .unwrap();
    assert_eq!(windows.len(), 3);
    let times = |node| {
        windows[&node]["node.height"]
            .iter()
            .map(|sample| sample.at.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(times(one), (1_190..1_200).collect::<Vec<_>>());
    assert_eq!(times(two), [1, 2]);
    assert_eq!(times(silent), [-8], "its last word");
    assert!(
        db.windows(&[], &["node.height"], Millis(0), 10)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn the_old_is_pruned_and_the_newest_value_stays(db: &Db) {
    let node = new_node();
    insert(
        db,
        &[
            height(node, -13, 1),
            height(node, -12, 2),
            height(node, -11, 3),
        ],
    )
    .await;
    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.prune_observations(Millis(-11), 1).await.unwrap(), 1);
    assert_eq!(tx.prune_observations(Millis(-11), 9).await.unwrap(), 1);
    assert_eq!(tx.prune_observations(Millis(-10), 9).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(
        db.samples(node, "node.height", Millis(-19), Millis(9), 9)
            .await
            .unwrap(),
        []
    );
    assert_eq!(
        db.latest_observations(&[node]).await.unwrap()[&node]["node.height"].at,
        Millis(-11)
    );
}
