//! Three servers that know each other: copies of the stream, and what becomes of it when one of them is killed.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_nats::jetstream::stream::{ClusterInfo, Config, PeerInfo};
use host_bus::Consumer as _;
use host_domain::event::HealthTransitionEvent;
use host_domain::node::Node;

use super::contract::{LIMIT, arrived, events, give};
use super::{Audit, Running, run};
use crate::store::builders::{event, node};
use crate::support::nats::{Nats, Version, free_port};
use crate::support::wait::eventually;

const STREAM: &str = "copies-events";

/// Three servers that know each other.
async fn cluster() -> Vec<Nats> {
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let routes: Vec<String> = ports
        .iter()
        .map(|port| format!("nats://127.0.0.1:{port}"))
        .collect();
    let mut servers = Vec::new();
    for (number, route) in routes.iter().enumerate() {
        let (name, routes) = (format!("n{number}"), routes.join(","));
        let args = [
            "--name",
            &name,
            "--cluster_name",
            "c",
            "--cluster",
            route,
            "--routes",
            &routes,
        ];
        servers.push(Nats::start_with(Version::Newest, &args).await);
    }
    let client = async_nats::connect(servers[0].url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    eventually("the three have found each other", LIMIT, async || {
        let wanted = Config {
            name: "probe".to_owned(),
            num_replicas: 3,
            ..Config::default()
        };
        jetstream.create_stream(wanted).await.ok()
    })
    .await;
    jetstream.delete_stream("probe").await.unwrap();
    servers
}

/// What a server knows of the stream.
async fn known(server: &Nats) -> Option<(usize, ClusterInfo)> {
    let client = async_nats::connect(server.url()).await.ok()?;
    let jetstream = async_nats::jetstream::new(client);
    let stream = jetstream.get_stream(STREAM).await.ok()?;
    let info = stream.cached_info();
    let cluster = info.cluster.clone().unwrap_or_default();
    Some((info.config.num_replicas, cluster))
}

async fn n_copies(server: &Nats) -> usize {
    known(server).await.map_or(0, |(n_copies, _)| n_copies)
}

/// How many servers have every event of the stream.
async fn n_whole(server: &Nats) -> Option<usize> {
    let (_, cluster) = known(server).await?;
    let is_whole = |peer: &&PeerInfo| peer.current && !peer.offline && peer.lag.unwrap_or(0) == 0;
    let followers = cluster.replicas.iter().filter(is_whole).count();
    Some(usize::from(cluster.leader.is_some()) + followers)
}

async fn all_are_whole(server: &Nats) {
    eventually("each has every event", LIMIT, async || {
        (n_whole(server).await? == 3).then_some(())
    })
    .await;
}

/// Which server leads the stream, as another one says.
async fn leader(server: &Nats) -> usize {
    let leads = eventually("the stream has a leader", LIMIT, async || {
        known(server).await?.1.leader
    });
    let name = leads.await;
    name.strip_prefix('n').unwrap().parse().unwrap()
}

/// Lets servers choose a leader of the stream until it is, or is not, this one.
async fn choose(servers: &[Nats], number: usize, leads: bool) {
    let asked = format!("$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}");
    eventually("the leader is chosen", LIMIT, async || {
        if (leader(&servers[number]).await == number) == leads {
            return Some(());
        }
        let client = async_nats::connect(servers[number].url()).await.ok()?;
        drop(client.request(asked.clone(), "".into()).await);
        None
    })
    .await;
}

#[tokio::test]
async fn of_three_servers_each_has_every_event() {
    let alone = Nats::start(Version::Newest).await;
    let _host = run(Some(&alone.url()), "copies", "a", &[]).await;
    assert_eq!(n_copies(&alone).await, 1);

    let servers = cluster().await;
    let urls: Vec<String> = servers.iter().map(Nats::url).collect();
    let audit = Audit::new();
    let Running { bus, .. } = &run(Some(&urls.join(",")), "copies", "a", &[("one", &audit)]).await;
    eventually("three copies", LIMIT, async || {
        (n_copies(&servers[0]).await == 3).then_some(())
    })
    .await;
    give(bus, &events(200)).await;
    arrived(&audit, &(1..=200).collect::<Vec<_>>()).await;
    all_are_whole(&servers[0]).await;
}

/// The nodes' events of some versions, in the order of the versions.
fn of_versions(nodes: &[Node], versions: std::ops::Range<i64>) -> Vec<HealthTransitionEvent> {
    versions
        .flat_map(|version| nodes.iter().map(move |node| event(node, version)))
        .collect()
}

/// The stream's events, in their order.
async fn stored(server: &Nats) -> Arc<Audit> {
    let client = async_nats::connect(server.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let stream = jetstream.get_stream(STREAM).await.unwrap();
    let audit = Audit::new();
    for seq in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(seq).await.unwrap();
        let event = serde_json::from_slice(&message.payload).unwrap();
        audit.take(&event).await.unwrap();
    }
    audit
}

/// The host is connected to the one that is killed while it sends, so that what is on its way is lost with it.
async fn events_outlive_a_server(victim_leads: bool) {
    let mut servers = cluster().await;
    let audit = Audit::new();
    // It hears of the others from this one.
    let url = servers[0].url();
    let Running { bus, .. } = &run(Some(&url), "copies", "a", &[("one", &audit)]).await;
    all_are_whole(&servers[0]).await;
    choose(&servers, 0, victim_leads).await;

    let nodes: Vec<Node> = (0..20).map(|n| node(&format!("node-{n}"))).collect();
    let (before, after) = (of_versions(&nodes, 1..6), of_versions(&nodes, 6..60));
    give(bus, &before).await;
    all_are_whole(&servers[0]).await;
    assert_eq!(leader(&servers[1]).await == 0, victim_leads);
    let victim = &mut servers[0];
    tokio::join!(give(bus, &after), async {
        eventually("some are on their way", LIMIT, async || {
            (audit.versions().len() > before.len() + nodes.len()).then_some(())
        })
        .await;
        victim.kill();
    });
    let all: BTreeSet<_> = before.iter().chain(&after).map(|event| event.id).collect();
    eventually("every event arrives", LIMIT, async || {
        audit
            .counts()
            .into_keys()
            .eq(all.iter().copied())
            .then_some(())
    })
    .await;
    let stored = stored(&servers[1]).await;
    assert!(stored.counts().into_keys().eq(all));
    assert!(stored.counts().into_values().all(|n| n == 1), "once each");
    assert_eq!(stored.out_of_order(), None);

    // And the stream is whole again when the server is back.
    servers[0].start_again().await;
    all_are_whole(&servers[1]).await;
    give(bus, &of_versions(&nodes, 60..61)).await;
}

#[tokio::test]
async fn events_outlive_a_server_that_does_not_lead_their_stream() {
    events_outlive_a_server(false).await;
}

#[tokio::test]
async fn events_outlive_the_server_that_leads_their_stream() {
    events_outlive_a_server(true).await;
}
