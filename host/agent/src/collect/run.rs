//! One collector of one node: called at its pace, one call at a time.

use std::sync::Arc;
use std::time::Duration;

use host_runtime::{CollectNode, FactSource, NodeContext, Plugin};
use proto::v1 as pb;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::Key;
use super::convert::{Target, observation};
use super::load::{Loaded, Slots};
use crate::outbox::observations::Observations;
use crate::time;

/// The first call comes within this time, however rare the others are.
const FIRST_MAX: Duration = Duration::from_secs(2);

/// A collector and what it works with.
pub(super) struct Collector {
    pub(super) key: Key,
    pub(super) wanted: watch::Receiver<Target>,
    pub(super) slots: Slots,
    pub(super) observations: Arc<Observations>,
    pub(super) facts: Arc<dyn FactSource>,
}

impl Collector {
    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let mut target = self.wanted.borrow_and_update().clone();
        let mut slot = self.slots.get(&target.plugin);
        let mut loaded = slot.state.subscribe();
        // The plugin that is called: an older one as long as the wanted one can't be.
        let mut active: Option<Plugin> = None;
        let mut ticks = ticks(target.every);
        loop {
            tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let next = self.wanted.borrow_and_update().clone();
                    if next.every != target.every {
                        ticks = self::ticks(next.every);
                    }
                    if next.plugin != target.plugin {
                        slot = self.slots.get(&next.plugin);
                        loaded = slot.state.subscribe();
                    }
                    target = next;
                    continue;
                }
                Ok(()) = loaded.changed() => {
                    // The old one keeps its pace while the wanted one can't be called.
                    let is_ready = matches!(&*loaded.borrow(), Loaded::Ready(_));
                    if active.is_some() && !is_ready {
                        continue;
                    }
                }
                _ = ticks.tick() => {}
            }
            let state = loaded.borrow_and_update().clone();
            match state {
                Loaded::Ready(plugin) => active = Some(plugin),
                Loaded::Broken(error) if active.is_none() => {
                    self.push(Vec::new(), error, true).await;
                    continue;
                }
                Loaded::Broken(_) | Loaded::Loading => {}
            }
            if let Some(plugin) = &active {
                self.call(plugin, &target).await;
            }
        }
    }

    async fn call(&self, plugin: &Plugin, target: &Target) {
        let Ok(id) = target.node_id.parse() else {
            let error = "the node's id is not a UUID".to_owned();
            return self.push(Vec::new(), error, false).await;
        };
        let node = CollectNode {
            id,
            chain: target.chain.clone(),
            node_type: target.node_type.clone(),
        };
        let context = NodeContext {
            ports: target.ports.clone(),
            facts: Some(Arc::clone(&self.facts)),
        };
        match plugin.collect(node, context).await {
            Ok(observations) => {
                let observations = observations.into_iter().map(observation).collect();
                self.push(observations, String::new(), false).await;
            }
            Err(error) => {
                self.push(Vec::new(), error.to_string(), error.is_fault())
                    .await;
            }
        }
    }

    async fn push(&self, observations: Vec<pb::Observation>, error: String, plugin_fault: bool) {
        let (node_id, collector) = self.key.clone();
        let at_ms = time::now().0;
        let collection = pb::Collection {
            node_id,
            collector,
            at_ms,
            observations,
            error,
            plugin_fault,
        };
        self.observations.push(collection).await;
    }
}

/// Ticks that begin at a random time; those that a long call covers are left out.
fn ticks(every: Duration) -> Interval {
    let first = time::jittered(every.min(FIRST_MAX));
    let mut ticks = tokio::time::interval_at(Instant::now() + first, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}
