//! Two hosts on one PostgreSQL with NATS between them: what one commits reaches the other at once.
//!
//! No test measures a time: every look by itself is an hour away, so what arrives at all was woken.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::dev::Dev;
use crate::support::nats::{Nats, Version};
use crate::support::postgres::Postgres;
use crate::support::tls::Authority;
use crate::support::wait::eventually;

/// A host looks for nothing by itself.
fn only_woken(host: &Dev) {
    let path = host.path("bellwether.yaml");
    let mut config = std::fs::read_to_string(&path).unwrap();
    config = config.replace("gateway: {", "gateway: {poll_interval: 1h, ");
    config.push_str("events: {poll_interval: 1h}\n");
    std::fs::write(path, config).unwrap();
}

async fn readiness(host: &Dev) -> (u16, Value) {
    let answer = host.system("readyz").await;
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}

fn part<'a>(ready: &'a Value, name: &str) -> &'a Value {
    let parts = ready["components"].as_array().unwrap();
    parts.iter().find(|part| part["name"] == name).unwrap()
}

#[tokio::test]
async fn what_one_host_accepts_reaches_the_engine_and_the_agent_of_another_by_wake_ups_alone() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    for version in Version::ALL {
        let nats = Nats::start(version).await;
        let database = server.empty_database().await;
        let mut first = Dev::serve(&database);
        first.set("BELLWETHER_EVENTS__NATS_URL", &nats.url());
        only_woken(&first);
        first.be_patient();
        assert!(first.command(&["migrate"]).0);
        first.start().await;
        let mut second = first.beside(&database);
        second.set("BELLWETHER_EVENTS__NATS_URL", &nats.url());
        only_woken(&second);
        second.be_patient();
        second.start().await;
        for host in [&first, &second] {
            connected(host).await;
        }
        // The agent is the second one's, which also takes the order; the first one runs the workflow.
        second.start_agent().await;
        second
            .post("nodes", &json!({ "chain": "anvil-devnet" }))
            .await;
        second.healthy().await;
    }
}

/// Each loss is told once, however often the connection is tried.
async fn away_was_told(host: &Dev, n_times: usize) {
    let count = || host.whole_log().matches("the event bus is away").count();
    eventually("the loss is told", Duration::from_secs(30), async || {
        (count() >= n_times).then_some(())
    })
    .await;
    assert_eq!(count(), n_times, "{}", host.log());
}

async fn connected(host: &Dev) {
    eventually(
        "the bus is connected",
        Duration::from_secs(30),
        async || {
            let (_, ready) = readiness(host).await;
            (part(&ready, "events")["is_ready"] == true).then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn without_nats_a_host_starts_says_so_once_and_heals_by_itself() {
    let mut nats = Nats::prepared(Version::Newest, &["--user", "bell", "--pass", "hunter2"]);
    let mut host = Dev::new(&["--no-node"]);
    let url = nats.url().replace("//", "//bell:hunter2@");
    std::fs::write(host.path("nats-url"), url).unwrap();
    host.set("BELLWETHER_EVENTS__NATS_URL_FILE", "nats-url");
    host.set("RUST_LOG", "info,async_nats=trace");
    host.start().await;
    for n_told in 1..=2 {
        away_was_told(&host, n_told).await;
        eventually(
            "it says that the bus is away",
            Duration::from_secs(30),
            async || {
                let (status, ready) = readiness(&host).await;
                let is_away = part(&ready, "events")["is_ready"] == false;
                (is_away && ready["status"] == "degraded" && status == 200).then_some(())
            },
        )
        .await;
        nats.start_again().await;
        connected(&host).await;
        assert_eq!(readiness(&host).await.1["status"], "ready");
        nats.kill();
    }
    away_was_told(&host, 3).await;
    assert_eq!(
        host.whole_log()
            .matches("the event bus is connected")
            .count(),
        2
    );
    assert!(!host.whole_log().contains("hunter2"));
}

#[tokio::test]
async fn nats_over_tls_is_away_while_its_authority_is_not_known_and_heals_by_itself() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.issue("127.0.0.1");
    let files = [&certificate, &key].map(|path| path.to_str().unwrap());
    let login = ["--user", "bell", "--pass", "hunter2", "--tls"];
    let args = [&login[..], &["--tlscert", files[0], "--tlskey", files[1]]].concat();
    for version in Version::ALL {
        let mut nats = Nats::start_with(version, &args).await;
        let mut host = Dev::new(&["--no-node"]);
        let url = nats.url().replace("nats://", "tls://bell:hunter2@");
        std::fs::write(host.path("nats-url"), url).unwrap();
        let trusted = host.path("nats-ca.pem");
        std::fs::copy(stranger.ca_file(), &trusted).unwrap();
        host.set("BELLWETHER_EVENTS__NATS_URL_FILE", "nats-url");
        host.set("BELLWETHER_EVENTS__NATS_CA_FILE", "nats-ca.pem");
        host.set("RUST_LOG", "info,async_nats=trace,rustls=trace");
        host.start().await;
        away_was_told(&host, 1).await;
        let (status, ready) = readiness(&host).await;
        assert_eq!((status, &ready["status"]), (200, &json!("degraded")));
        let events = part(&ready, "events").to_string();
        assert!(events.contains("`events.nats_ca_file`"), "{events}");

        std::fs::copy(authority.ca_file(), &trusted).unwrap();
        connected(&host).await;
        assert_eq!(readiness(&host).await.1["status"], "ready");
        // It is lost and found again like any other.
        nats.kill();
        away_was_told(&host, 2).await;
        nats.start_again().await;
        connected(&host).await;
        assert!(!host.whole_log().contains("hunter2"), "{version:?}");
    }
}
