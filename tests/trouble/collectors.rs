//! Collectors that misbehave on a real agent, beside one that does not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use host_domain::ids::NodeId;
use host_domain::incident::{Incident, SubjectKind};
use host_domain::node::ApplicationHealth;
use host_domain::time::Millis;
use host_system::SystemClock;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::bed::{Bed, Folder, policies, policy_plugin};
use crate::support::wait::eventually;

const LIMIT: Duration = Duration::from_secs(40);

/// Each by its name: what it does, the target that is granted, and the word in its incident that names the trouble.
const CASES: [(&str, &str, &str, &str); 5] = [
    (
        "ungranted",
        "http://other.example/",
        "node:rpc",
        "is not granted",
    ),
    (
        "metadata",
        "http://169.254.169.254/latest/meta-data/",
        "node:rpc",
        "is not granted",
    ),
    (
        "by-name",
        "http://localhost:1/",
        "http://localhost:1/",
        "loopback",
    ),
    ("trap", "", "node:rpc", "trapped"),
    ("loop", "", "node:rpc", "CPU time"),
];

fn plugin(config: &Value, target: &str) -> Value {
    let cpu = if config["act"] == "loop" {
        "100ms"
    } else {
        "900ms"
    };
    json!({
        "component": "components/hostile.wasm", "config": config,
        "grants": { "http": [{ "target": target }] }, "limits": { "cpu": cpu },
    })
}

/// The hostile ones, of which those in `mended` behave, one that always behaves, and a policy.
fn plugins(mended: &[&str]) -> Value {
    let mut all = json!({
        "good": plugin(&json!({ "act": "behave" }), "node:rpc"),
        "calm": policy_plugin(&json!({ "act": "behave" })),
    });
    for (name, url, target, _) in CASES {
        let config = match url {
            _ if mended.contains(&name) => json!({ "act": "behave" }),
            "" => json!({ "act": name }),
            url => json!({ "act": "http", "url": url }),
        };
        all[name] = plugin(&config, target);
    }
    all
}

fn observation() -> Value {
    let names = CASES.iter().map(|case| case.0).chain(["good"]);
    let used =
        names.map(|name| json!({ "name": name, "plugin": name, "every": "1s", "timeout": "1s" }));
    json!({ "collectors": used.collect::<Vec<_>>(), "policies": policies(&["calm"]) })
}

/// An agent in this process.
struct Agent {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Agent {
    async fn start(bed: &Bed) -> Self {
        let (config, stop) = (bed.agent().await, CancellationToken::new());
        let token = stop.clone();
        let task = tokio::spawn(async move { host_agent::run(config, token).await.unwrap() });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// The open incidents of collector plugins, by plugin.
async fn open(bed: &Bed) -> BTreeMap<String, Incident> {
    let open = bed.open("plugin_error").await;
    let n_open = open.len();
    let by_plugin: BTreeMap<_, _> = open
        .into_iter()
        .map(|incident| (incident.key.subject_id.clone(), incident))
        .collect();
    assert_eq!(by_plugin.len(), n_open, "one for each plugin");
    by_plugin
}

/// When the collector that behaves measured last.
async fn measured_at(bed: &Bed, node: NodeId) -> Option<Millis> {
    let latest = bed.db.latest_observations(&[node]).await.unwrap();
    Some(latest.get(&node)?.get("hostile.done")?.at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_hostile_collector_is_one_incident_until_it_works_again_over_restarts() {
    let folder = Arc::new(Folder::new());
    folder.chain("toy", &plugins(&[]), observation());
    let bed = Bed::start(&folder, Arc::new(SystemClock)).await;
    let agent = Agent::start(&bed).await;
    let node = bed.node("toy", Some(bed.machine().await)).await;
    // Tells the agent of the node that nobody provisioned.
    folder.write(
        "notifications/none.yaml",
        json!({ "receivers": [], "routes": [] }),
    );
    bed.reload().await.unwrap();

    eventually("every breaker opens", LIMIT, async || {
        for (name, ..) in CASES {
            bed.stats("toy", name).await.is_open.then_some(())?;
        }
        Some(())
    })
    .await;
    let incidents = open(&bed).await;
    assert_eq!(incidents.len(), CASES.len(), "{incidents:#?}");
    for (name, _, _, word) in CASES {
        let incident = &incidents[&format!("toy/{name}")];
        assert_eq!(incident.key.subject_kind, SubjectKind::Plugin);
        assert!(incident.title.contains(word), "{name}: {}", incident.title);
        assert!(incident.occurrences <= 2, "{name}: {incident:#?}");
    }
    let before = measured_at(&bed, node).await.unwrap();
    eventually("the good one measures on", LIMIT, async || {
        (measured_at(&bed, node).await? > before).then_some(())
    })
    .await;
    assert!(!bed.stats("toy", "good").await.is_open);
    let judged = bed.host.evaluation.run("toy").await.unwrap();
    assert_eq!(judged[0].1.health, ApplicationHealth::Ok);

    // Both end, one plugin is mended meanwhile, and nobody remembers anything but the database.
    agent.stop().await;
    let gateway = bed.host.gateway;
    bed.stop().await;
    folder.profile("toy", &plugins(&["trap"]));
    let bed = Bed::start_at(&folder, Arc::new(SystemClock), gateway).await;
    let agent = Agent::start(&bed).await;
    eventually("the mended one's incident ends", LIMIT, async || {
        (!open(&bed).await.contains_key("toy/trap")).then_some(())
    })
    .await;
    assert_eq!(open(&bed).await.len(), CASES.len() - 1);

    // And without any restart.
    folder.profile("toy", &plugins(&["trap", "loop"]));
    bed.reload().await.unwrap();
    eventually("the other one's incident ends", LIMIT, async || {
        (!open(&bed).await.contains_key("toy/loop")).then_some(())
    })
    .await;
    assert_eq!(open(&bed).await.len(), CASES.len() - 2);
    assert_eq!(bed.incidents("node_down", false).await, []);
    agent.stop().await;
    bed.stop().await;
}
