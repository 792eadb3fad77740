//! The same spine with `bellwether serve` on PostgreSQL: only the database's address differs.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::dev::{Dev, signal};
use crate::support::postgres::Postgres;
use crate::support::wait::eventually;

const OBSERVATION: &str = "chains/anvil-devnet/observation.yaml";

#[tokio::test]
async fn an_unmigrated_postgres_is_refused_with_the_command_that_migrates_it() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    let dev = Dev::serve(&server.empty_database().await);
    let (ended_well, said) = dev.command(&["serve"]);
    assert!(!ended_well && said.contains("bellwether migrate"), "{said}");

    let (ended_well, said) = dev.command(&["migrate", "--dry-run"]);
    assert!(ended_well && said.contains("0001_init"), "{said}");
    let (_, still) = dev.command(&["serve"]);
    assert!(
        still.contains("bellwether migrate"),
        "a dry run changed something: {still}"
    );

    let outcomes = std::thread::scope(|scope| {
        let begun: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| dev.command(&["migrate"])))
            .collect();
        let ended = begun.into_iter().map(|thread| thread.join().unwrap());
        ended.collect::<Vec<_>>()
    });
    for (ended_well, said) in outcomes {
        assert!(ended_well, "of several at once, each ends well: {said}");
    }
    let (ended_well, said) = dev.command(&["migrate", "--dry-run"]);
    assert!(ended_well && !said.contains("0001_init"), "{said}");
}

#[tokio::test]
async fn a_database_that_is_away_ends_the_start_and_no_password_is_told() {
    let mut dev = Dev::serve("postgres://bellwether:hunter2@127.0.0.1:1/bellwether");
    let (ended_well, said) = dev.command(&["serve"]);
    assert!(!ended_well && said.contains("database.url"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    dev.set(
        "BELLWETHER_DATABASE__URL",
        "postgres://bellwether:hunter2@[::1/x",
    );
    dev.set("RUST_LOG", "trace");
    let (ended_well, said) = dev.command(&["serve"]);
    assert!(!ended_well && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_host_on_postgres_heals_after_kills_judges_and_reloads() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    let mut dev = Dev::serve(&server.empty_database().await);
    assert!(dev.command(&["migrate"]).0);
    dev.start().await;
    dev.start_agent().await;
    dev.post("nodes", &json!({ "chain": "anvil-devnet" })).await;
    // Killed at moments that spread over the provisioning.
    for pause_ms in [300, 900, 1_700, 2_600] {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        dev.restart_host().await;
    }
    let node = dev.healthy().await;
    let processes = dev.node_processes();
    assert_eq!(processes.len(), 1, "one process runs");
    let commands = dev
        .get(&format!("nodes/{}/commands", node["id"].as_str().unwrap()))
        .await;
    let installs = commands["items"].as_array().unwrap().iter();
    let installs = installs.filter(|one| one["kind"] == "install").count();
    assert_eq!(installs, 1, "installed once");

    signal(processes[0], Signal::STOP);
    dev.node_when("critical", Duration::from_mins(1), |node| {
        node["application_health"] == "critical"
    })
    .await;
    eventually("the incident", Duration::from_secs(20), async || {
        dev.incidents("node_critical").await.pop()
    })
    .await;
    dev.edit(OBSERVATION, "stalled_after_s: 15", "stalled_after_s: 14");
    dev.post("plugins/reload", &serde_json::Value::Null).await;
    signal(processes[0], Signal::CONT);
    dev.healthy().await;
    let incidents = dev.incidents("node_critical").await;
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
}

#[tokio::test]
async fn looking_at_an_embedded_database_that_is_not_there_leaves_nothing() {
    let dev = Dev::new(&[]);
    let state = dev.path(".bellwether");
    for folder in [false, true] {
        if folder {
            std::fs::create_dir_all(&state).unwrap();
        }
        for look in [
            ["migrate", "--dry-run"].as_slice(),
            &["db", "export", "export.jsonl"],
        ] {
            let (ended_well, said) = dev.command(look);
            assert!(!ended_well && said.contains("bellwether migrate"), "{said}");
        }
        assert!(!state.join("bellwether.db").exists());
        assert!(!dev.path("export.jsonl").exists());
    }
    std::fs::remove_dir_all(&state).unwrap();
    let (ended_well, said) = dev.command(&["migrate"]);
    assert!(ended_well, "{said}");
    let (ended_well, said) = dev.command(&["migrate", "--dry-run"]);
    assert!(ended_well && said.contains("up to date"), "{said}");
}
