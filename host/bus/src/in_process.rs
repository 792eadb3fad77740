//! The event bus within one process: an event is accepted when every consumer has accepted it, so only the outbox is
//! durable.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host_domain::event::HealthTransitionEvent;
use host_domain::ids::EventId;

use super::{BusError, Consumer, Given};

/// How many event ids are remembered to drop repeats.
const REMEMBERED_MAX: usize = 10_000;

/// The bus of a host that runs alone. Cheap to clone.
#[derive(Clone, Default)]
pub struct InProcess {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    consumers: Vec<(&'static str, Arc<dyn Consumer>)>,
    taken: HashSet<EventId>,
    /// The same ids, oldest first.
    order: VecDeque<EventId>,
}

impl InProcess {
    pub(super) fn attach(&self, name: &'static str, consumer: Arc<dyn Consumer>) {
        self.lock().consumers.push((name, consumer));
    }

    pub(super) async fn publish(&self, events: &[HealthTransitionEvent]) -> Given {
        for (n_taken, event) in events.iter().enumerate() {
            if let Err(error) = self.hand_over(event).await {
                return Given {
                    n_taken,
                    refused: Some(error),
                };
            }
        }
        Given {
            n_taken: events.len(),
            refused: None,
        }
    }

    async fn hand_over(&self, event: &HealthTransitionEvent) -> Result<(), BusError> {
        let consumers = {
            let inner = self.lock();
            if inner.taken.contains(&event.id) {
                return Ok(());
            }
            inner.consumers.clone()
        };
        for (name, consumer) in consumers {
            let taken = consumer.take(event).await;
            taken.map_err(|source| BusError::NotTaken {
                consumer: name,
                source,
            })?;
        }
        self.lock().remember(event.id);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn remember(&mut self, id: EventId) {
        if self.taken.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.taken.remove(&oldest);
        }
    }
}
