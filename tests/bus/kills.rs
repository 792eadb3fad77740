//! A host under load, whose NATS server and whose PostgreSQL are killed: every committed transition has its effect once.

use std::collections::BTreeSet;
use std::time::Duration;

use host_domain::event::HealthTransitionEvent;
use host_domain::ids::EventId;
use host_domain::node::{Node, NodeState};
use host_domain::time::Millis;
use host_store::{Db, DbOptions};

use super::{Audit, run};
use crate::store::builders::{event, node};
use crate::support::dev::Dev;
use crate::support::nats::{Nats, Version};
use crate::support::postgres::Postgres;
use crate::support::wait::eventually;

/// Transitions in one transaction.
const BATCH: usize = 100;
const LIMIT: Duration = Duration::from_mins(4);

/// Transitions of many nodes, each of which ends by going down.
struct Load {
    nodes: Vec<Node>,
    events: Vec<HealthTransitionEvent>,
}

impl Load {
    fn new(n_nodes: usize, n_events: usize) -> Self {
        let nodes: Vec<Node> = (0..n_nodes).map(|n| node(&format!("node-{n}"))).collect();
        let steps = i64::try_from(n_events / n_nodes).unwrap();
        let mut events = Vec::new();
        for version in 1..=steps {
            for node in &nodes {
                let mut event = event(node, version);
                if version == steps {
                    event.after.state = NodeState::Down;
                }
                events.push(event);
            }
        }
        Self { nodes, events }
    }

    /// Commits a part of it, as the node machine does.
    async fn commit(&self, db: &Db, part: std::ops::Range<usize>) {
        for events in self.events[part].chunks(BATCH) {
            let mut tx = db.begin().await.unwrap();
            tx.insert_outbox(events).await.unwrap();
            tx.commit().await.unwrap();
        }
    }

    fn ids(&self) -> BTreeSet<EventId> {
        self.events.iter().map(|event| event.id).collect()
    }
}

async fn each_transition_has_its_effect_once(version: Version, n_events: usize) {
    let Some(mut server) = Postgres::start_own().await else {
        return;
    };
    let mut nats = Nats::start(version).await;
    let database = server.empty_database().await;
    let mut host = Dev::serve(&database);
    host.set("BELLWETHER_EVENTS__NATS_URL", &nats.url());
    assert!(host.command(&["migrate"]).0);
    host.start().await;
    // Somebody else's program that follows the stream.
    let audit = Audit::new();
    let follower = run(
        Some(&nats.url()),
        "bellwether",
        "audit",
        &[("audit", &audit)],
    )
    .await;
    let db = Db::open(&database, &DbOptions::default()).await.unwrap();
    let load = Load::new(100, n_events);
    let quarter = n_events / 4;

    load.commit(&db, 0..quarter).await;
    some_more(&audit, 10).await;
    nats.kill();
    load.commit(&db, quarter..2 * quarter).await;
    nats.start_again().await;
    some_more(&audit, 10).await;
    server.stop();
    server.start_again().await;
    let db = Db::open(&database, &DbOptions::default()).await.unwrap();
    load.commit(&db, 2 * quarter..3 * quarter).await;
    some_more(&audit, 10).await;
    nats.kill();
    nats.start_again().await;
    load.commit(&db, 3 * quarter..n_events).await;

    let all = load.ids();
    eventually("every transition arrives", LIMIT, async || {
        (audit.counts().len() >= all.len()).then_some(())
    })
    .await;
    eventually("nothing waits", LIMIT, async || {
        let now = Millis(i64::MAX);
        let handling = db.outbox_lag(now).await.ok()?.n_waiting;
        let giving = db.bus_lag(now).await.ok()?.n_waiting;
        (handling + giving == 0).then_some(())
    })
    .await;
    let arrived: BTreeSet<EventId> = audit.counts().into_keys().collect();
    assert_eq!(arrived, all);
    assert_eq!(audit.out_of_order(), None);
    assert_eq!(n_stored(&nats).await, u64::try_from(n_events).unwrap());
    one_incident_of_each(&host, &load).await;
    drop(follower);
}

/// Waits until further events have arrived: everything is in motion.
async fn some_more(audit: &Audit, n: usize) {
    let before = audit.counts().len();
    eventually("events flow", LIMIT, async || {
        (audit.counts().len() >= before + n).then_some(())
    })
    .await;
}

/// How many messages the stream has: a repeat is none.
async fn n_stored(nats: &Nats) -> u64 {
    let client = async_nats::connect(nats.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let stream = jetstream.get_stream("bellwether-events").await.unwrap();
    stream.cached_info().state.messages
}

async fn one_incident_of_each(host: &Dev, load: &Load) {
    let page = host.get("incidents?limit=200").await;
    let incidents = page["items"].as_array().unwrap();
    assert_eq!(incidents.len(), load.nodes.len());
    for incident in incidents {
        assert_eq!(
            (&incident["category"], &incident["occurrences"]),
            (&"node_down".into(), &1.into())
        );
    }
}

#[tokio::test]
async fn of_10000_transitions_each_has_its_effect_once_over_kills_of_nats_2_9_and_postgres() {
    each_transition_has_its_effect_once(Version::Debian, 10_000).await;
}

#[tokio::test]
async fn each_transition_has_its_effect_once_over_kills_of_nats_2_15_and_postgres() {
    each_transition_has_its_effect_once(Version::Newest, 2_000).await;
}
