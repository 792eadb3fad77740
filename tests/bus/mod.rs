//! The event bus: one contract for every kind of it, and what it does when servers are killed.

mod cluster;
mod contract;
mod kills;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use host_bus::{Bus, Consumer};
use host_bus::{EventsConfig, NatsUrl};
use host_domain::event::HealthTransitionEvent;
use host_domain::ids::{EventId, NodeId};
use tokio_util::sync::CancellationToken;

use crate::support::wait::eventually;

/// Remembers every event that it was offered.
#[derive(Default)]
struct Audit {
    taken: Mutex<Vec<HealthTransitionEvent>>,
    /// How many events it can't take at first.
    refuses: Mutex<u32>,
}

#[async_trait]
impl Consumer for Audit {
    async fn take(&self, event: &HealthTransitionEvent) -> anyhow::Result<()> {
        let mut refuses = self.refuses.lock().unwrap();
        if *refuses > 0 {
            *refuses -= 1;
            anyhow::bail!("not yet");
        }
        self.taken.lock().unwrap().push(event.clone());
        Ok(())
    }
}

impl Audit {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn versions(&self) -> Vec<i64> {
        let taken = self.taken.lock().unwrap();
        taken.iter().map(|event| event.state_version).collect()
    }

    /// How often each event was offered.
    fn counts(&self) -> BTreeMap<EventId, usize> {
        let mut counts = BTreeMap::new();
        for event in &*self.taken.lock().unwrap() {
            *counts.entry(event.id).or_default() += 1;
        }
        counts
    }

    /// An event that was offered for the first time behind a later one of its node.
    fn out_of_order(&self) -> Option<HealthTransitionEvent> {
        let mut seen = BTreeSet::new();
        let mut newest: BTreeMap<NodeId, i64> = BTreeMap::new();
        for event in &*self.taken.lock().unwrap() {
            if seen.insert(event.id) {
                let newest = newest.entry(event.node_id).or_default();
                if *newest > event.state_version {
                    return Some(event.clone());
                }
                *newest = event.state_version;
            }
        }
        None
    }
}

/// A bus that runs until it is dropped.
struct Running {
    bus: Bus,
    shutdown: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A host's bus, through servers or inside this process.
async fn run(
    url: Option<&str>,
    prefix: &str,
    host: &str,
    consumers: &[(&'static str, &Arc<Audit>)],
) -> Running {
    let config = EventsConfig {
        nats_url: url.map(NatsUrl::new),
        prefix: prefix.to_owned(),
        ..EventsConfig::default()
    };
    let bus = Bus::open(&config, host).await.unwrap();
    for (name, consumer) in consumers {
        let consumer: Arc<Audit> = Arc::clone(consumer);
        bus.attach(name, consumer);
    }
    let shutdown = CancellationToken::new();
    let (runs, until) = (bus.clone(), shutdown.clone());
    tokio::spawn(async move { runs.run(&until).await });
    eventually(
        "the bus takes events",
        Duration::from_secs(30),
        async || bus.link(),
    )
    .await;
    Running { bus, shutdown }
}
