//! A whole database moves to the other kind and back, and nothing but a whole one is taken.

use host_domain::observation::{Observation, Scalar};
use host_domain::time::Millis;
use host_store::{Db, NodeFilter, SubscriptionPayment, TransferError};

use super::builders::{machine, node, subscription};
use crate::support::database::TestDb;
use crate::support::postgres::Postgres;

async fn exported(db: &Db) -> Vec<String> {
    let mut lines = Vec::new();
    let mut keep = |line: &str| {
        lines.push(line.to_owned());
        Ok(())
    };
    let sums = db.export(&mut keep).await.unwrap();
    assert!(sums.iter().any(|sum| sum.table == "nodes" && sum.rows > 0));
    lines
}

async fn import(db: &Db, lines: &[String]) -> Result<u64, TransferError> {
    let mut lines = lines.iter().cloned().map(Ok);
    let sums = db.import(&mut lines).await?;
    Ok(sums.iter().map(|sum| sum.rows).sum())
}

/// Rows of every type, more than a page of one table, and every kind of text.
async fn fill(db: &Db) {
    let mut tx = db.begin().await.unwrap();
    tx.insert_machine(&machine("machine")).await.unwrap();
    let paid = subscription("alice");
    tx.insert_subscription(&paid).await.unwrap();
    let payment = SubscriptionPayment {
        payment_id: "p-1".to_owned(),
        subscription_id: paid.id,
        paid_until: Millis(2),
        recorded_at: Millis(1),
    };
    tx.insert_subscription_payment(&payment).await.unwrap();
    let mut rows = Vec::new();
    for number in 0..700 {
        let node = node(&format!("node-{number}"));
        tx.insert_node(&node).await.unwrap();
        rows.push((
            node.id,
            Observation {
                name: "node.height".to_owned(),
                at: Millis(number),
                value: Scalar::Text("\u{1f41b} \\ \"quoted\" \u{1}\n".to_owned()),
            },
        ));
    }
    tx.insert_observations(&rows).await.unwrap();
    tx.set_meta("empty", "").await.unwrap();
    tx.take_leader_epoch("fleet", "one", Millis(i64::MAX))
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

pub(super) async fn contract(source: &Db, target: &Db, back: &Db) {
    fill(source).await;
    let lines = exported(source).await;
    refuses_what_is_not_whole(target, &lines).await;
    let rows = import(target, &lines).await.unwrap();
    assert!(rows > 1_400, "{rows}");
    assert_eq!(sorted(&exported(target).await), sorted(&lines));
    match import(target, &lines).await {
        Err(TransferError::NotEmpty { table }) => assert_eq!(table, "meta"),
        other => panic!("{other:?}"),
    }
    // It counts on behind what came in.
    let mut tx = target.begin().await.unwrap();
    tx.append_audit(&host_store::AuditEntry {
        seq: 0,
        at: Millis(1),
        actor: "x".to_owned(),
        action: "x".to_owned(),
        object: "x".to_owned(),
        request_id: None,
        details: serde_json::Value::Null,
    })
    .await
    .unwrap();
    tx.rollback().await.unwrap();
    import(back, &exported(target).await).await.unwrap();
    assert_eq!(sorted(&exported(back).await), sorted(&lines));
}

/// Databases sort text by different rules.
fn sorted(lines: &[String]) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines.sort();
    lines
}

async fn refuses_what_is_not_whole(target: &Db, lines: &[String]) {
    let at = lines
        .iter()
        .position(|line| line.contains("node-3\""))
        .unwrap();
    let end = lines.len() - 1;
    let other = |at: usize, line: &str| {
        let mut lines = lines.to_vec();
        line.clone_into(&mut lines[at]);
        lines
    };
    let mut less = lines.to_vec();
    less.remove(at);
    let cases = [
        (lines[..end].to_vec(), "the file ends too early"),
        (lines[1..].to_vec(), "does not start"),
        (less, "differs from the export"),
        (
            other(at, &lines[at].replace("node-3", "node-x")),
            "differs from the export",
        ),
        (other(at, "[1]"), "not a row"),
        (other(at, "{"), "EOF"),
        (other(end, "{}"), "the end of the export is missing"),
        (
            other(1, "{\"table\":\"nodes; DROP TABLE nodes\"}"),
            "table `meta`",
        ),
        (
            other(0, "{\"bellwether_export\":1,\"schema\":99}"),
            "schema version 99",
        ),
    ];
    for (lines, expected) in cases {
        let error = import(target, &lines).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected), "{expected}: {text}");
        let left = target.list_nodes(&NodeFilter::default(), None, 1).await;
        assert!(left.unwrap().is_empty(), "all of it, or nothing");
    }
}

#[tokio::test]
async fn an_installation_moves_to_postgres_and_back_with_every_row() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    let (source, back) = (TestDb::sqlite().await, TestDb::sqlite().await);
    let target = server.database().await;
    contract(&source.db, &target.db, &back.db).await;
}

#[tokio::test]
async fn a_table_that_the_export_does_not_know_is_refused() {
    let test = TestDb::sqlite().await;
    test.raw("CREATE TABLE another (id TEXT)").await;
    let refused = test.db.export(&mut |_| Ok(())).await;
    match refused {
        Err(TransferError::Schema(text)) => assert!(text.contains("another"), "{text}"),
        other => panic!("{other:?}"),
    }
}
