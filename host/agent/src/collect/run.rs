//! Runs one collector of one node at its interval, one call at a time.

use std::sync::Arc;
use std::time::Duration;

use host_domain::breaker::Breaker;
use host_domain::observation::Observation;
use host_runtime::{CallError, CollectNode, FactSource, NodeContext, Plugin};
use proto::v1 as pb;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::Key;
use super::convert::{Target, observation};
use super::load::{PluginState, Slots};
use crate::outbox::observations::Observations;
use crate::time;

/// The first call comes within this time, however long the interval is.
const FIRST_MAX: Duration = Duration::from_secs(2);

/// A collector and what it needs.
pub(super) struct Collector {
    pub(super) key: Key,
    pub(super) targets: watch::Receiver<Target>,
    pub(super) slots: Slots,
    pub(super) observations: Arc<Observations>,
    pub(super) facts: Arc<dyn FactSource>,
}

impl Collector {
    /// Runs until the future is dropped.
    pub(super) async fn run(mut self) {
        let mut target = self.targets.borrow_and_update().clone();
        let mut slot = self.slots.get(&target.plugin);
        let mut states = slot.state.subscribe();
        // The plugin to call. It is the previous one while the assigned one can't be called.
        let mut active: Option<Plugin> = None;
        let mut breaker = Breaker::default();
        // Whether `active` is the assigned plugin.
        let mut is_assigned = false;
        let mut ticks = ticks(target.every);
        loop {
            tokio::select! {
                changed = self.targets.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let next = self.targets.borrow_and_update().clone();
                    if next.every != target.every {
                        ticks = self::ticks(next.every);
                    }
                    if next.plugin != target.plugin {
                        slot = self.slots.get(&next.plugin);
                        is_assigned = false;
                        states = slot.state.subscribe();
                    }
                    target = next;
                    continue;
                }
                Ok(()) = states.changed() => {
                    // The previous plugin keeps its interval while the assigned one can't be called.
                    let is_ready = matches!(&*states.borrow(), PluginState::Ready(_));
                    if active.is_some() && !is_ready {
                        continue;
                    }
                }
                _ = ticks.tick() => {}
            }
            let state = states.borrow_and_update().clone();
            match state {
                PluginState::Ready(plugin) => {
                    if !is_assigned {
                        // Failures of the previous plugin do not count against the assigned one.
                        breaker = Breaker::default();
                        is_assigned = true;
                    }
                    active = Some(plugin);
                }
                PluginState::Broken(error) if active.is_none() => {
                    self.push(Outcome::broke(error, false)).await;
                    continue;
                }
                PluginState::Broken(_) | PluginState::Loading => {}
            }
            if let Some(plugin) = &active
                && breaker.allow(time::now())
            {
                self.call(plugin, &target, &mut breaker).await;
            }
        }
    }

    /// Calls the plugin once and records the outcome.
    async fn call(&self, plugin: &Plugin, target: &Target, breaker: &mut Breaker) {
        let Ok(id) = target.node_id.parse() else {
            return self
                .push(Outcome::failed("the node's id is not a UUID"))
                .await;
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
        let measured = plugin.collect(node, context).await;
        let error = measured.as_ref().err();
        if let Some(CallError::Busy) = error {
            // The plugin was not called, so this is neither a success nor a failure.
            tracing::warn!(
                collector = self.key.1,
                "too many collectors run at once; this one skips a call"
            );
            return;
        }
        breaker.report(error.is_some_and(CallError::is_fault), time::now());
        let outcome = match measured {
            Ok(observations) => Outcome::measured(observations),
            Err(error) if error.is_fault() => Outcome::broke(error.to_string(), breaker.is_open()),
            Err(error) => Outcome::failed(&error.to_string()),
        };
        self.push(outcome).await;
    }

    async fn push(&self, outcome: Outcome) {
        let (node_id, collector) = self.key.clone();
        let Outcome {
            observations,
            error,
            plugin_fault,
            paused,
        } = outcome;
        let at_ms = time::now().0;
        let collection = pb::Collection {
            node_id,
            collector,
            at_ms,
            observations,
            error,
            plugin_fault,
            paused,
        };
        self.observations.push(collection).await;
    }
}

/// The outcome of one call.
#[derive(Default)]
struct Outcome {
    observations: Vec<pb::Observation>,
    error: String,
    plugin_fault: bool,
    paused: bool,
}

impl Outcome {
    fn measured(observations: Vec<Observation>) -> Self {
        Self {
            observations: observations.into_iter().map(observation).collect(),
            ..Self::default()
        }
    }

    /// The node or another service did not answer.
    fn failed(error: &str) -> Self {
        Self {
            error: error.to_owned(),
            ..Self::default()
        }
    }

    /// The plugin itself failed, perhaps so often that the agent calls it less often.
    fn broke(error: String, paused: bool) -> Self {
        Self {
            error,
            plugin_fault: true,
            paused,
            ..Self::default()
        }
    }
}

/// Ticks with a random start. A call that takes longer than the interval skips ticks.
fn ticks(every: Duration) -> Interval {
    let first = time::jittered(every.min(FIRST_MAX));
    let mut ticks = tokio::time::interval_at(Instant::now() + first, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}
