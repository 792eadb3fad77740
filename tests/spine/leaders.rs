//! Two hosts on one PostgreSQL: one leads, another takes over, and who is late does nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::Connection;

use super::stalls::notify;
use crate::support::dev::{Dev, signal};
use crate::support::postgres::Postgres;
use crate::support::wait::eventually;
use crate::support::webhooks::Webhooks;

/// Judged each second: the lease is one, too.
const TAKEN_OVER: Duration = Duration::from_secs(5);

/// The tenure, and the process that has it.
async fn leader(database: &str) -> (i64, u32) {
    let mut connection = sqlx::PgConnection::connect(database).await.unwrap();
    let row: Option<(i64, String)> =
        sqlx::query_as("SELECT epoch, holder FROM leader_epochs WHERE name = 'fleet'")
            .fetch_optional(&mut connection)
            .await
            .unwrap();
    let (epoch, holder) = row.unwrap_or_default();
    let pid = holder.split('-').next().unwrap_or_default();
    (epoch, pid.parse().unwrap_or(0))
}

async fn led_by(database: &str, dev: &Dev) -> i64 {
    let mut last = (0, 0);
    let found = tokio::time::timeout(TAKEN_OVER, async {
        loop {
            last = leader(database).await;
            if last.1 == dev.host_pid() {
                return last.0;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    found
        .await
        .unwrap_or_else(|_| panic!("{} does not lead: {last:?}\n{}", dev.host_pid(), dev.log()))
}

/// Every transition, in the order in which they were committed.
async fn transitions(database: &str) -> Vec<Value> {
    let mut connection = sqlx::PgConnection::connect(database).await.unwrap();
    let rows: Vec<String> = sqlx::query_scalar(
        "SELECT payload FROM event_log WHERE kind = 'node_transition' ORDER BY seq",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    rows.iter()
        .map(|text| serde_json::from_str(text).unwrap())
        .collect()
}

/// Waits for exactly these messages; the failure shows what came instead.
async fn told(hooks: &Webhooks, statuses: &[&str], host: &Dev) {
    let found = tokio::time::timeout(Duration::from_secs(20), async {
        while hooks.statuses() != statuses {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    if found.await.is_err() {
        let incidents = host.get("incidents").await;
        panic!("told {:?}: {incidents:#}\n{}", hooks.statuses(), host.log());
    }
}

/// Each transition begins where the one before it ended: none is there twice, none is missing.
fn check_chain(transitions: &[Value]) {
    let mut now: BTreeMap<String, Value> = BTreeMap::new();
    for step in transitions {
        let dimension = step["dimension"].as_str().unwrap().to_owned();
        if let Some(before) = now.get(&dimension) {
            assert_eq!(before, &step["from"], "{transitions:#?}");
        }
        assert_ne!(step["from"], step["to"], "{step:#}");
        now.insert(dimension, step["to"].clone());
    }
}

#[tokio::test]
async fn another_host_takes_over_and_a_frozen_leader_does_nothing_afterwards() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    let database = server.empty_database().await;
    let hooks = Webhooks::listen().await;
    let mut first = Dev::serve(&database);
    notify(&first, &hooks);
    first.be_patient();
    assert!(first.command(&["migrate"]).0);
    first.start().await;
    let tenure = led_by(&database, &first).await;
    let mut second = first.beside(&database);
    notify(&second, &hooks);
    second.be_patient();
    second.start().await;
    // The agent is the second one's; the first one leads and runs the workflow.
    second.start_agent().await;
    second
        .post("nodes", &json!({ "chain": "anvil-devnet" }))
        .await;
    second.healthy().await;
    assert_eq!(leader(&database).await, (tenure, first.host_pid()));

    signal(first.host_pid(), Signal::STOP);
    let next = led_by(&database, &second).await;
    assert_eq!(next, tenure + 1);
    let node = second.node_processes()[0];
    signal(node, Signal::STOP);
    second
        .node_when("critical", Duration::from_mins(1), |node| {
            node["application_health"] == "critical"
        })
        .await;
    told(&hooks, &["firing"], &second).await;
    let before = transitions(&database).await;
    signal(first.host_pid(), Signal::CONT);
    // Several rounds of every loop.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(leader(&database).await, (next, second.host_pid()));
    assert_eq!(transitions(&database).await, before);
    assert_eq!(hooks.statuses(), ["firing"]);
    let incidents = second.incidents("node_critical").await;
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(incidents[0]["occurrences"], 1);

    // The agent's host is killed while it leads, and is there again; the first one leads meanwhile.
    second
        .restart_host_after(async || {
            assert_eq!(led_by(&database, &first).await, next + 1);
        })
        .await;
    signal(node, Signal::CONT);
    second.healthy().await;
    eventually("the end is told", Duration::from_secs(20), async || {
        (hooks.statuses().last()? == "resolved").then_some(())
    })
    .await;
    check_chain(&transitions(&database).await);
}

#[tokio::test]
async fn a_host_with_other_secrets_is_refused_and_a_restart_of_postgres_is_outlived() {
    let Some(mut server) = Postgres::start_own().await else {
        return;
    };
    let database = server.empty_database().await;
    let mut dev = Dev::serve(&database);
    assert!(dev.command(&["migrate"]).0);
    dev.start().await;
    let stranger = Dev::serve(&database);
    let (ended_well, said) = stranger.command(&["serve"]);
    assert!(!ended_well && said.contains("api-key-pepper"), "{said}");
    let forgetful = dev.beside(&database);
    std::fs::remove_file(forgetful.path(".bellwether/master-keys")).unwrap();
    let (ended_well, said) = forgetful.command(&["serve"]);
    assert!(!ended_well && said.contains("master-keys"), "{said}");

    let tenure = led_by(&database, &dev).await;
    assert_eq!(dev.status("nodes").await.0, 200);
    server.stop();
    let (status, again) = dev.status("nodes").await;
    assert_eq!((status, again.is_some()), (503, true), "{}", dev.log());
    server.start_again().await;
    eventually("it answers again", Duration::from_secs(30), async || {
        (dev.status("nodes").await.0 == 200).then_some(())
    })
    .await;
    eventually("it leads again", Duration::from_secs(10), async || {
        let (epoch, pid) = leader(&database).await;
        (epoch > tenure && pid == dev.host_pid()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_host_has_an_admin_key_of_its_own_name() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    let database = server.empty_database().await;
    let mut first = Dev::serve(&database);
    assert!(first.command(&["migrate"]).0);
    first.start().await;
    let mut second = first.beside(&database);
    second.start().await;
    let own_name = async |host: &Dev| {
        let me = host.get("me").await;
        me["name"].as_str().unwrap().to_owned()
    };
    let (one, two) = (own_name(&first).await, own_name(&second).await);
    assert!(one.starts_with("admin@"), "{one}");
    assert!(
        two.starts_with(&format!("{one}-")),
        "on one machine: {one}, {two}"
    );
    // A restart keeps the key; a lost file is another key.
    assert!(first.interrupt_host().await);
    first.start().await;
    assert_eq!(own_name(&first).await, one);
    assert!(second.interrupt_host().await);
    std::fs::remove_file(second.path(".bellwether/admin-key")).unwrap();
    second.start().await;
    let three = own_name(&second).await;
    assert!(
        three != one && three != two && three.starts_with(&one),
        "{three}"
    );
    let keys = first.get("admin/api-keys?state=active").await;
    assert_eq!(keys["items"].as_array().unwrap().len(), 3, "{keys:#}");
}
