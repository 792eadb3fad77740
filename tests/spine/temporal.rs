//! The same spine on PostgreSQL and Temporal: two addresses differ, and any number of hosts carry the workflows.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::dev::Dev;
use crate::support::postgres::Postgres;
use crate::support::temporal::Temporal;
use crate::support::wait::eventually;

/// What `/readyz` says: its status, and about the engine.
async fn engine(dev: &Dev) -> (u16, Value) {
    let answer = dev.system("readyz").await;
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    let parts = body["components"].as_array().unwrap();
    let engine = parts.iter().find(|part| part["name"] == "engine");
    (status, engine.unwrap().clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_host_was_at_another_finishes_and_a_temporal_that_is_away_heals() {
    let Some(database) = Postgres::start().await else {
        return;
    };
    let mut temporal = Temporal::start().await;
    let url = database.empty_database().await;
    let mut first = Dev::serve(&url);
    first.work_for(&temporal);
    first.be_patient();
    assert!(first.command(&["migrate"]).0);
    first.start().await;
    let mut second = first.beside(&url);
    second.work_for(&temporal);
    second.be_patient();
    second.start().await;
    second.start_agent().await;

    second
        .post("nodes", &json!({ "chain": "anvil-devnet" }))
        .await;
    // Both hosts work; the one that is killed had a part of it.
    tokio::time::sleep(Duration::from_millis(700)).await;
    first.kill_host();
    let node = second
        .node_when("healthy", Duration::from_mins(3), |node| {
            node["display_state"] == "healthy"
        })
        .await;
    assert_eq!(second.node_processes().len(), 1, "one process runs");
    let id = node["id"].as_str().unwrap();
    let commands = second.get(&format!("nodes/{id}/commands")).await;
    let installs = commands["items"].as_array().unwrap().iter();
    let installs = installs.filter(|one| one["kind"] == "install").count();
    assert_eq!(installs, 1, "installed once");

    temporal.kill();
    eventually("it is missed", Duration::from_secs(30), async || {
        let (status, engine) = engine(&second).await;
        (status == 200 && engine["is_ready"] == false).then_some(())
    })
    .await;
    temporal.start_again().await;
    eventually("it is back", Duration::from_mins(1), async || {
        let (status, engine) = engine(&second).await;
        (status == 200 && engine["is_ready"] == true).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_temporal_that_is_away_or_another_engine_than_before_ends_the_start() {
    let Some(database) = Postgres::start().await else {
        return;
    };
    let mut temporal = Temporal::start().await;
    let url = database.empty_database().await;
    let mut dev = Dev::serve(&url);
    assert!(dev.command(&["migrate"]).0);
    dev.set("BELLWETHER_WORKFLOWS__ENGINE", "temporal");
    let (ended_well, said) = dev.command(&["serve"]);
    assert!(
        !ended_well && said.contains("workflows.temporal.url"),
        "{said}"
    );
    dev.work_for(&temporal);
    temporal.kill();
    let (ended_well, said) = dev.command(&["serve"]);
    assert!(
        !ended_well && said.contains("workflows.temporal.url"),
        "{said}"
    );

    // The workflows of this database are on the Temporal now; a host that would run them by itself is told so.
    let other = dev.beside(&url);
    let (ended_well, said) = other.command(&["serve"]);
    assert!(
        !ended_well && said.contains("`workflows.engine` is `duroxide`"),
        "{said}"
    );
}
