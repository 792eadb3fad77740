//! Measures the cost of a node's transition. First: transitions with their outbox rows, compared with plain updates
//! of the same rows on the same PostgreSQL, one per transaction and in batches like the evaluators. Second: the
//! latency from a transition's commit to a consumer behind NATS, at 1,000 per second.
//!
//! `BELLWETHER_BENCH_PG` is the URL of an empty database, `BELLWETHER_BENCH_NATS` that of a server with JetStream.
//! The second part needs the program of the same profile (`cargo build --release`) and the components.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures the time that passes"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use host_bus::{Bus, Consumer, Wake};
use host_bus::{EventsConfig, NatsUrl};
use host_domain::event::{Dimension, HealthTransitionEvent};
use host_domain::ids::{EventId, NodeId, SubscriptionId};
use host_domain::node::{Condition, Node, Placement, SyncStatus};
use host_domain::time::Millis;
use host_server::ops::{Change, change_nodes};
use host_store::{Db, DbOptions};
use sqlx::Connection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Concurrent writers.
const WRITERS: usize = 4;
/// How long each kind of write is measured.
const MEASURED: Duration = Duration::from_secs(10);
/// Changes per transaction: one of a workflow, and a batch of the evaluators of heartbeats and policies (`BATCH`).
const OF_ONE_TRANSACTION: [usize; 2] = [1, 100];
/// Nodes of the latency measurement.
const NODES: usize = 500;
/// Transitions per transaction, and the pause between two transactions: 1,000 per second.
const BATCH: usize = 20;
const PAUSE: Duration = Duration::from_millis(20);
/// The number of batches: twenty seconds.
const BATCHES: usize = 1_000;
/// The time limit of an event's arrival.
const ARRIVES_MAX: Duration = Duration::from_mins(2);

const PLAIN: &str = "UPDATE nodes SET display_state = $1, updated_at = $2 WHERE id = $3";

type Moments = Arc<Mutex<BTreeMap<EventId, Instant>>>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (Ok(database), Ok(nats)) = (
        std::env::var("BELLWETHER_BENCH_PG"),
        std::env::var("BELLWETHER_BENCH_NATS"),
    ) else {
        println!("set BELLWETHER_BENCH_PG and BELLWETHER_BENCH_NATS to measure transitions");
        return Ok(());
    };
    let db = Db::open(&database, &DbOptions::default()).await?;
    db.migrate().await?;
    let nodes: Vec<Node> = (0..NODES).map(|n| node(&format!("node-{n}"))).collect();
    let mut tx = db.begin().await?;
    for node in &nodes {
        tx.insert_node(node).await?;
    }
    tx.commit().await?;

    let mut nodes = nodes;
    for of_one in OF_ONE_TRANSACTION {
        let plain = plain_updates(&database, &nodes, of_one).await?;
        let machine = through_the_machine(&db, &mut nodes, of_one).await?;
        println!("{of_one} in a transaction:");
        println!("  baseline: plain updates              {plain:>9.0} /s");
        println!("  transitions: state and outbox        {machine:>9.0} /s");
        let share = machine / plain;
        println!("  share                                {share:>9.2}");
        sqlx::raw_sql("TRUNCATE health_event_outbox, node_events, event_log")
            .execute(&mut sqlx::PgConnection::connect(&database).await?)
            .await?;
    }
    latency(&database, &nats, &db, &nodes).await
}

fn node(name: &str) -> Node {
    Node {
        id: NodeId(Uuid::now_v7()),
        subscription_id: SubscriptionId(Uuid::now_v7()),
        name: name.to_owned(),
        chain_profile_id: "anvil-devnet".to_owned(),
        node_type: "full".to_owned(),
        condition: Condition::NEW,
        reasons: Vec::new(),
        placement: Placement::default(),
        ports: BTreeMap::new(),
        binary_versions: BTreeMap::new(),
        inputs: BTreeMap::new(),
        operation_id: None,
        state_version: 1,
        created_at: Millis(1),
        updated_at: Millis(1),
    }
}

/// Updates one row per statement, as pgbench does.
async fn plain_updates(database: &str, nodes: &[Node], of_one: usize) -> anyhow::Result<f64> {
    let mut writers = tokio::task::JoinSet::new();
    for part in nodes.chunks(NODES / WRITERS) {
        let mut connection = sqlx::PgConnection::connect(database).await?;
        let ids: Vec<String> = part.iter().map(|node| node.id.to_string()).collect();
        writers.spawn(async move {
            let begun = Instant::now();
            let mut n_done = 0_u32;
            while begun.elapsed() < MEASURED {
                for ids in ids.chunks(of_one) {
                    if of_one > 1 {
                        sqlx::raw_sql("BEGIN").execute(&mut connection).await?;
                    }
                    for id in ids {
                        sqlx::query(PLAIN)
                            .bind("healthy")
                            .bind(i64::from(n_done))
                            .bind(id)
                            .execute(&mut connection)
                            .await?;
                        n_done += 1;
                    }
                    if of_one > 1 {
                        sqlx::raw_sql("COMMIT").execute(&mut connection).await?;
                    }
                }
            }
            anyhow::Ok(f64::from(n_done) / begun.elapsed().as_secs_f64())
        });
    }
    let mut sum = 0.0;
    while let Some(rate) = writers.join_next().await {
        sum += rate??;
    }
    Ok(sum)
}

/// Makes transitions, and leaves `nodes` as they are in the database.
async fn through_the_machine(db: &Db, nodes: &mut [Node], of_one: usize) -> anyhow::Result<f64> {
    let mut writers = Vec::new();
    for part in nodes.chunks(NODES / WRITERS) {
        let (db, mut part) = (db.clone(), part.to_vec());
        writers.push(tokio::spawn(async move {
            let begun = Instant::now();
            let mut n_done = 0_u32;
            while begun.elapsed() < MEASURED {
                for nodes in part.chunks_mut(of_one) {
                    let now = Millis(i64::from(n_done));
                    let mut tx = db.begin().await?;
                    let changes = nodes.iter().map(|node| (node, change(node)));
                    let changed = change_nodes(&mut tx, changes, now).await?;
                    tx.commit().await?;
                    n_done += u32::try_from(changed.len())?;
                    nodes.clone_from_slice(&changed);
                }
            }
            anyhow::Ok((f64::from(n_done) / begun.elapsed().as_secs_f64(), part))
        }));
    }
    let mut sum = 0.0;
    for (writer, of_it) in writers.into_iter().zip(nodes.chunks_mut(NODES / WRITERS)) {
        let (rate, part) = writer.await??;
        of_it.clone_from_slice(&part);
        sum += rate;
    }
    Ok(sum)
}

/// A change that alternates between two states.
fn change(node: &Node) -> Change {
    let next = match node.condition.sync_status {
        SyncStatus::Synced => SyncStatus::Syncing,
        SyncStatus::Syncing | SyncStatus::Unknown => SyncStatus::Synced,
    };
    Change {
        sync_status: Some(next),
        ..Change::default()
    }
}

/// Records when each event arrives.
struct Follower(Moments);

#[async_trait]
impl Consumer for Follower {
    async fn take(&self, event: &HealthTransitionEvent) -> anyhow::Result<()> {
        let mut arrived = self.0.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
        arrived.entry(event.id).or_insert_with(Instant::now);
        Ok(())
    }
}

/// The latency from a transition's commit to a consumer, with a host between them.
async fn latency(database: &str, nats: &str, db: &Db, nodes: &[Node]) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let _host = Host::start(folder.path(), database, nats)?;
    let arrived = Moments::default();
    let config = EventsConfig {
        nats_url: Some(NatsUrl::new(nats)),
        ..EventsConfig::default()
    };
    let bus = Bus::open(&config, "bench").await?;
    bus.attach("bench", Arc::new(Follower(Arc::clone(&arrived))));
    let shutdown = CancellationToken::new();
    let (runs, until) = (bus.clone(), shutdown.clone());
    let running = tokio::spawn(async move { runs.run(&until).await });

    // The first event proves that the host runs.
    let mut committed = BTreeMap::new();
    commit(db, &nodes[..1], 0, &mut committed).await?;
    wait(&arrived, 1).await?;
    committed.clear();
    for batch in 0..BATCHES {
        let begun = Instant::now();
        let first = batch * BATCH % NODES;
        let version = i64::try_from(batch)? + 1;
        commit(db, &nodes[first..first + BATCH], version, &mut committed).await?;
        // The host that makes a transition notifies the others in the same way.
        bus.wake(Wake::Log);
        tokio::time::sleep(PAUSE.saturating_sub(begun.elapsed())).await;
    }
    wait(&arrived, 1 + BATCHES * BATCH).await?;
    shutdown.cancel();
    running.await?;
    let arrived = arrived.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
    let mut took: Vec<Duration> = committed
        .iter()
        .filter_map(|(id, at)| Some(arrived.get(id)?.saturating_duration_since(*at)))
        .collect();
    took.sort_unstable();
    for (name, place) in [("median", took.len() / 2), ("p99", took.len() * 99 / 100)] {
        let ms = took[place].as_secs_f64() * 1e3;
        println!("outbox to consumer, {name:<19}{ms:>9.1} ms");
    }
    Ok(())
}

async fn commit(
    db: &Db,
    nodes: &[Node],
    version: i64,
    committed: &mut BTreeMap<EventId, Instant>,
) -> anyhow::Result<()> {
    let events: Vec<_> = nodes
        .iter()
        .map(|node| HealthTransitionEvent {
            id: EventId(Uuid::now_v7()),
            node_id: node.id,
            node_name: node.name.clone(),
            chain_profile_id: node.chain_profile_id.clone(),
            node_type: node.node_type.clone(),
            dimension: Dimension::SyncStatus,
            before: node.condition,
            after: node.condition,
            cause: "verdict".to_owned(),
            reasons: Vec::new(),
            state_version: version,
            at: Millis(version),
        })
        .collect();
    let mut tx = db.begin().await?;
    tx.insert_outbox(&events).await?;
    tx.commit().await?;
    let now = Instant::now();
    committed.extend(events.into_iter().map(|event| (event.id, now)));
    Ok(())
}

async fn wait(arrived: &Moments, n: usize) -> anyhow::Result<()> {
    let begun = Instant::now();
    while arrived
        .lock()
        .map_err(|_| anyhow::anyhow!("poisoned"))?
        .len()
        < n
    {
        anyhow::ensure!(begun.elapsed() < ARRIVES_MAX, "events do not arrive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// A host on the database, which is killed on drop.
struct Host(Child);

impl Host {
    fn start(folder: &Path, database: &str, nats: &str) -> anyhow::Result<Self> {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let this = std::env::current_exe()?;
        let programs = this.parent().and_then(Path::parent).map(PathBuf::from);
        let program = programs.unwrap_or_default().join("bellwether");
        let config = format!(
            "{{http: {{listen: \"127.0.0.1:0\"}}, gateway: {{listen: \"127.0.0.1:0\"}}, \
              chains: {{allow_undigested: true, dir: \"{}\"}}}}",
            project.join("chain-configs").canonicalize()?.display()
        );
        std::fs::write(folder.join("bellwether.yaml"), config)?;
        let mut command = Command::new(program);
        command
            .arg("serve")
            .current_dir(folder)
            .env("BELLWETHER_DATABASE__URL", database)
            .env("BELLWETHER_EVENTS__NATS_URL", nats)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
