//! An agent replaces a running collector: between two calls, without a gap, and never by one that can't run.

use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use proto::v1 as pb;
use proto::v1::agent_message::Message as Out;
use proto::v1::host_message::Message as In;
use serde_json::{Value, json};

use super::bed::Bed;
use crate::plugins::support::component;
use crate::support::wait::until;

const EVERY: Duration = Duration::from_secs(1);
/// A call of the first collector takes long, so that the replacement comes during a call.
const SLOW: Duration = Duration::from_millis(400);

/// Answers like a slow node.
async fn rpc(Json(request): Json<Value>) -> Json<Value> {
    tokio::time::sleep(SLOW).await;
    let answer = |call: &Value| {
        let result = match call["method"].as_str().unwrap() {
            "eth_syncing" => json!(false),
            "web3_clientVersion" => json!("stub/1.0"),
            "eth_getBlockByNumber" => json!({ "timestamp": "0x1" }),
            _ => json!("0x7"),
        };
        json!({ "jsonrpc": "2.0", "id": call["id"], "result": result })
    };
    match &request {
        Value::Array(calls) => Json(calls.iter().map(answer).collect()),
        call => Json(answer(call)),
    }
}

async fn stub() -> u32 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = Router::new().route("/", post(rpc));
    tokio::spawn(async move { axum::serve(listener, app).await });
    port.into()
}

struct Swap {
    bed: Bed,
    port: u32,
    generation: u64,
}

impl Swap {
    async fn assign(&mut self, digest: &str, config: &Value) {
        self.generation += 1;
        let http = vec![pb::HttpGrant {
            target: "node:rpc".to_owned(),
            addresses: Vec::new(),
        }];
        let collector = pb::CollectorAssignment {
            name: "it".to_owned(),
            plugin: "it".to_owned(),
            component_digest: digest.to_owned(),
            config_json: config.to_string(),
            every_ms: u64::try_from(EVERY.as_millis()).unwrap(),
            grants: Some(pb::Grants {
                http,
                ..pb::Grants::default()
            }),
            limits: None,
        };
        let node = pb::NodeAssignment {
            node_id: self.bed.node.clone(),
            ports: [("rpc".to_owned(), self.port)].into(),
            collectors: vec![collector],
            ..pb::NodeAssignment::default()
        };
        let assignments = pb::Assignments {
            generation: self.generation,
            nodes: vec![node],
        };
        self.bed.gateway.send(In::Assignments(assignments)).await;
    }

    fn offer(&self, bytes: Vec<u8>) -> String {
        let digest = host_runtime::Digest::of(&bytes).to_string();
        self.bed.gateway.offer_component(&digest, bytes);
        digest
    }

    /// When a collector measured, and the first observation, which identifies the collector.
    fn measured(&self) -> Vec<(i64, String)> {
        let mut found = Vec::new();
        for message in self.bed.gateway.received() {
            let Out::Observations(batch) = message else {
                continue;
            };
            for collection in batch.collections {
                assert_eq!(collection.error, "", "{collection:?}");
                let first = collection.observations.first().map(|one| one.name.clone());
                found.push((collection.at_ms, first.unwrap_or_default()));
            }
        }
        found.sort();
        found.dedup();
        found
    }

    async fn more(&self, what: &str, prefix: &str) {
        let n = |found: &[(i64, String)]| {
            found
                .iter()
                .filter(|(_, name)| name.starts_with(prefix))
                .count()
        };
        let before = n(&self.measured());
        until(what, || match self.measured() {
            found if n(&found) >= before + 2 => Ok(()),
            found => Err(found),
        })
        .await;
    }

    async fn reported(&self, digest: &str) -> pb::ComponentReport {
        let report = self
            .bed
            .gateway
            .wait("a report of the component", |message| match message {
                Out::Component(report) if report.digest == digest => Some(report.clone()),
                _ => None,
            });
        report.await
    }
}

#[tokio::test]
async fn a_collector_is_replaced_between_two_calls_and_never_by_one_that_can_not_run() {
    let (bed, port) = (Bed::new().await, stub().await);
    let mut swap = Swap {
        bed,
        port,
        generation: 0,
    };
    let config = json!({ "url": "node:rpc" });
    let old = swap.offer(component("evm"));
    swap.assign(&old, &config).await;
    swap.more("the first collector", "node.").await;

    // One component can't be downloaded, and one can't be compiled.
    let away = host_runtime::Digest::of(b"nobody has it").to_string();
    let broken = swap.offer(b"not a component".to_vec());
    for digest in [&away, &broken] {
        swap.assign(digest, &json!({})).await;
        let report = swap.reported(digest).await;
        assert!(!report.ready && !report.error.is_empty(), "{report:?}");
        swap.more("the old one going on", "node.").await;
    }

    let new = swap.offer(component("host"));
    swap.assign(&new, &json!({})).await;
    swap.more("the new collector", "host.").await;
    assert!(swap.reported(&new).await.ready);

    let measured = swap.measured();
    let is_new: Vec<bool> = measured
        .iter()
        .map(|(_, name)| name.starts_with("host."))
        .collect();
    assert!(
        is_new.is_sorted(),
        "the old one was called after the new one: {measured:#?}"
    );
    let longest = measured.windows(2).map(|pair| pair[1].0 - pair[0].0).max();
    let bound = i64::try_from((2 * EVERY + SLOW).as_millis()).unwrap();
    assert!(
        longest.unwrap() <= bound,
        "more than one interval is missing: {measured:#?}"
    );
}
