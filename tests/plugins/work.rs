//! The first-party components at work: against a node that is a stub, and a receiver that is a real listener.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use axum::{Json, Router};
use host_domain::incident::{IncidentState, Severity};
use host_domain::node::Reason;
use host_domain::observation::Scalar;
use host_domain::plugin::PluginKind;
use host_runtime::{
    FactSource, IncidentView, LabelView, MachineFacts, NodeContext, Notification,
    NotificationStatus, SecretSource, Services,
};
use serde_json::{Value, json};

use super::support::{NOW, component, host, host_with, http_grant, node, rpc_at, services, spec};

async fn serve(app: Router) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

/// A node at height 4660 that does not know `net_peerCount`.
async fn rpc(Json(request): Json<Value>) -> Json<Value> {
    let answer = |call: &Value| {
        let result = match call["method"].as_str().unwrap() {
            "eth_blockNumber" => json!({"result": "0x1234"}),
            "eth_getBlockByNumber" => {
                json!({"result": {"timestamp": format!("{:#x}", NOW.0 / 1000 - 3)}})
            }
            "eth_syncing" => json!({"result": false}),
            "web3_clientVersion" => json!({"result": "stub/1.0"}),
            _ => json!({"error": {"code": -32601, "message": "method not found"}}),
        };
        let mut answer = json!({"jsonrpc": "2.0", "id": call["id"]});
        answer
            .as_object_mut()
            .unwrap()
            .extend(result.as_object().unwrap().clone());
        answer
    };
    match &request {
        Value::Array(calls) => Json(calls.iter().map(answer).collect()),
        call => Json(answer(call)),
    }
}

#[tokio::test]
async fn evm_measures_a_node_that_lacks_a_method() {
    let port = serve(Router::new().route("/", post(rpc))).await;
    let mut spec = spec(PluginKind::Collector, json!({}));
    spec.grants.http = vec![http_grant("node:rpc", &[])];
    let plugin = host().load(component("evm"), spec).await.unwrap();
    let measured = plugin.collect(node(), rpc_at(port)).await.unwrap();
    let measured: BTreeMap<_, _> = measured
        .into_iter()
        .inspect(|found| assert_eq!(found.at, NOW))
        .map(|found| (found.name, found.value))
        .collect();
    assert_eq!(measured["node.height"], Scalar::Int(0x1234));
    assert_eq!(measured["node.block_age_s"].number(), Some(3.0));
    assert_eq!(measured["node.syncing"], Scalar::Flag(false));
    assert_eq!(measured["node.version"], Scalar::Text("stub/1.0".into()));
    assert_eq!(measured.get("node.peers").and_then(Scalar::number), None);
}

struct Facts;

impl FactSource for Facts {
    fn read(&self) -> Result<MachineFacts, String> {
        Ok(MachineFacts {
            cpus: 2,
            load1: 0.5,
            memory_used_bytes: 1 << 30,
            memory_total_bytes: 4 << 30,
            disk_used_bytes: 10 << 30,
            disk_total_bytes: 40 << 30,
        })
    }
}

#[tokio::test]
async fn host_measures_the_machine_through_the_facts() {
    let spec = spec(PluginKind::Collector, json!({}));
    let plugin = host().load(component("host"), spec).await.unwrap();
    let context = NodeContext {
        facts: Some(Arc::new(Facts)),
        ..NodeContext::default()
    };
    let measured = plugin.collect(node(), context).await.unwrap();
    assert!(!measured.is_empty());
    assert!(
        measured.iter().all(|found| found.value.number().is_some()),
        "{measured:?}"
    );
    let without = plugin
        .collect(node(), NodeContext::default())
        .await
        .unwrap_err();
    assert_eq!(without.code(), "plugin_denied");
}

/// What a receiver got.
type Received = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

async fn receive(State(received): State<Received>, headers: HeaderMap, Json(body): Json<Value>) {
    received.lock().unwrap().push((headers, body));
}

fn notification() -> Notification {
    Notification {
        id: "0190-notification".into(),
        route: "default".into(),
        receiver: "ops".into(),
        status: NotificationStatus::Firing,
        sent_at: NOW,
        incidents: vec![IncidentView {
            id: "0190-incident".into(),
            category: "node_critical".into(),
            severity: Severity::Critical,
            state: IncidentState::Open,
            title: "node is stuck".into(),
            subject_kind: "node".into(),
            subject_id: "0190-node".into(),
            subject_name: "anvil-1".into(),
            labels: vec![LabelView {
                key: "chain".into(),
                value: "anvil-devnet".into(),
            }],
            reasons: vec![Reason::new("height_stalled", "no new block for 60 s")],
            occurrences: 1,
            opened_at: NOW,
            resolved_at: None,
        }],
    }
}

#[tokio::test]
async fn webhook_posts_to_its_receiver_with_a_secret_that_it_never_sees() {
    let received = Received::default();
    let app = Router::new()
        .route("/hook", post(receive))
        .with_state(received.clone());
    let port = serve(app).await;
    let secrets = BTreeMap::from([("hook-token".to_owned(), "s3cret".to_owned().into())]);
    let host = host_with(Services {
        secrets: Arc::new(secrets) as Arc<dyn SecretSource>,
        ..services()
    });
    let url = format!("http://127.0.0.1:{port}/hook");
    let header = json!({"name": "authorization", "secret": "hook-token", "bearer": true});
    let mut spec = spec(
        PluginKind::Notifier,
        json!({"url": url, "secret_header": header}),
    );
    spec.grants.http = vec![http_grant(url, &[])];
    spec.grants.secrets = vec!["hook-token".into()];
    let plugin = host.load(component("webhook"), spec.clone()).await.unwrap();
    plugin.deliver(&notification()).await.unwrap();
    {
        let received = received.lock().unwrap();
        let [(headers, body)] = received.as_slice() else {
            panic!("one request: {received:?}")
        };
        assert_eq!(headers["authorization"], "Bearer s3cret");
        assert_eq!(headers["idempotency-key"], "0190-notification");
        assert!(body.to_string().contains("height_stalled"), "{body}");
    }
    let basic = json!({"name": "authorization", "secret": "hook-token", "user": "ops"});
    spec.config["secret_header"] = basic;
    let plugin = host.load(component("webhook"), spec.clone()).await.unwrap();
    plugin.deliver(&notification()).await.unwrap();
    let sent = received.lock().unwrap()[1].0["authorization"].clone();
    assert_eq!(sent, "Basic b3BzOnMzY3JldA==");
    for granted in [vec![], vec!["another".to_owned()]] {
        spec.grants.secrets = granted;
        let plugin = host.load(component("webhook"), spec.clone()).await.unwrap();
        let refused = plugin.deliver(&notification()).await.unwrap_err();
        assert_eq!(refused.code(), "plugin_denied");
        assert!(refused.to_string().contains("`hook-token`"), "{refused}");
    }
    assert_eq!(received.lock().unwrap().len(), 2);
}
