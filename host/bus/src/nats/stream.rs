//! The JetStream stream of transitions: created by the host, filled in order, each event once.
//!
//! The event id is the message id, so within [`SAME_WITHIN`] the servers store a repeat only once. A server
//! acknowledges a message before its disk has it (it syncs every two minutes by default, and 2.9 flushes even later),
//! so the caller keeps accepted events for [`KEPT`] and publishes them again over each new connection. Many messages
//! are in flight at once, but only one per node: whatever a lost connection drops, the stream stores no event of a
//! node before its predecessor.
//! A stream of one copy may also lose what it has answered for. There each message asks to follow the one before it
//! A stream with one replica may also lose acknowledged messages. There each message names its predecessor
//! (`Nats-Expected-Last-Msg-Id`), so that the stream stores nothing behind a gap. A stream with several replicas
//! loses no acknowledged message and must not use that header: from 2.14 on, a message behind a gap breaks the stream
//! for good (seen with 2.15.1: `critical write error: last msgid mismatch`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::Client;
use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamErrorKind, PublishAckFuture,
};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use futures_util::future::join_all;
use host_domain::event::HealthTransitionEvent;
use host_domain::ids::EventId;
use tokio::sync::{Notify, watch};

use super::{Connection, PAUSE_MAX};
use crate::{ANSWER_MAX, BusError, Consumer, Given};

/// How long accepted events are kept for another publication: longer than servers wait before they sync.
pub(crate) const KEPT: Duration = Duration::from_mins(3);
/// Within this time the servers drop a message with a known id: longer than [`KEPT`].
const SAME_WITHIN: Duration = Duration::from_mins(10);
/// The retention of transitions, for consumers that lag.
const AGE_MAX: Duration = Duration::from_hours(7 * 24);
/// The maximum size on disk; beyond it the servers drop the oldest events.
const BYTES_MAX: i64 = 512 << 20;
/// The maximum of consumers of the stream.
const CONSUMERS_MAX: i32 = 64;
/// Replicas where there are enough servers; otherwise one.
const REPLICAS: usize = 3;
/// The maximum of messages in flight.
const IN_FLIGHT_MAX: usize = 500;
/// The reason before the stream is created or found.
const NOT_YET: &str = "the stream of transitions is not set up yet";

/// The stream and its consumers on this host.
pub(super) struct Stream {
    pub(super) jetstream: Context,
    pub(super) name: String,
    prefix: String,
    connection: watch::Sender<Connection>,
    /// Counts how many times the stream was verified.
    pub(super) link: watch::Sender<Option<u64>>,
    trouble: watch::Sender<Option<String>>,
    /// Signals that the stream may need another setup.
    suspect: Notify,
    /// The number of replicas that the last setup found or created.
    n_copies: AtomicUsize,
    pub(super) consumers: Mutex<Vec<(&'static str, Arc<dyn Consumer>)>>,
    pub(super) behind: Mutex<BTreeMap<&'static str, u64>>,
}

impl Stream {
    pub(super) fn new(client: Client, prefix: &str, connection: watch::Sender<Connection>) -> Self {
        let jetstream = async_nats::jetstream::ContextBuilder::new()
            .timeout(ANSWER_MAX)
            .ack_timeout(ANSWER_MAX)
            .max_ack_inflight(IN_FLIGHT_MAX)
            .backpressure_on_inflight(true)
            .build(client);
        Self {
            jetstream,
            name: format!("{prefix}-events"),
            prefix: prefix.to_owned(),
            connection,
            link: watch::Sender::new(None),
            trouble: watch::Sender::new(Some(NOT_YET.to_owned())),
            suspect: Notify::new(),
            n_copies: AtomicUsize::new(REPLICAS),
            consumers: Mutex::default(),
            behind: Mutex::default(),
        }
    }

    /// Why the bus accepts no events although there is a connection.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    pub(super) fn link(&self) -> Option<u64> {
        self.connection.borrow().is_up.then_some(())?;
        *self.link.borrow()
    }

    /// Keeps the stream set up and delivers its events to consumers until the client is closed.
    pub(super) async fn run(&self) {
        let consumers = held(&self.consumers).clone();
        let consuming = consumers
            .into_iter()
            .map(|(name, consumer)| self.consume(name, consumer));
        tokio::join!(self.keep(), join_all(consuming), self.measure());
    }

    /// Sets the stream up over each new connection, and after an error.
    async fn keep(&self) {
        let mut connection = self.connection.subscribe();
        let mut n_links = 0;
        let mut tries = 0;
        loop {
            if connection
                .wait_for(|connection| connection.is_up)
                .await
                .is_err()
            {
                return;
            }
            connection.mark_unchanged();
            match self.set_up().await {
                Ok(()) => {
                    tries = 0;
                    n_links += 1;
                    self.link.send_replace(Some(n_links));
                    self.tell(None);
                    tokio::select! {
                        _ = connection.changed() => {}
                        () = self.suspect.notified() => {}
                    }
                    self.link.send_replace(None);
                }
                Err(error) => {
                    tries += 1;
                    self.tell(Some(format!("{error:#}")));
                    let pause = super::pause(tries).min(PAUSE_MAX);
                    drop(tokio::time::timeout(pause, connection.changed()).await);
                }
            }
        }
    }

    async fn set_up(&self) -> anyhow::Result<()> {
        self.make_stream().await?;
        let consumers = held(&self.consumers).clone();
        for (name, _) in consumers {
            self.make_consumer(name).await?;
        }
        Ok(())
    }

    /// Creates the stream or corrects its settings, with three replicas where there are enough servers. An
    /// unavailable server does not reduce existing replicas. A stream with the right settings stays unchanged,
    /// because servers that lost a member serve reads but may not answer an update for long.
    async fn make_stream(&self) -> anyhow::Result<()> {
        let found = self.find_stream().await?;
        let is_as = |wished: &Config| found.as_ref() == Some(wished);
        for replicas in [REPLICAS, 1] {
            let config = self.config(replicas, found.as_ref());
            self.n_copies.store(config.num_replicas, Ordering::Relaxed);
            if is_as(&config) {
                return Ok(());
            }
            match self.jetstream.create_or_update_stream(config).await {
                Ok(_) => break,
                Err(error) if replicas > 1 && has_no_place(&error) => {}
                Err(error) => {
                    let what = format!("the stream `{}` can't be created", self.name);
                    return Err(anyhow::Error::new(error).context(what));
                }
            }
        }
        Ok(())
    }

    async fn find_stream(&self) -> anyhow::Result<Option<Config>> {
        match self.jetstream.get_stream(&self.name).await {
            Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(error)
                    .context("JetStream does not answer; check that it is enabled on the servers"),
            },
        }
    }

    /// The desired settings; settings that people added and additional replicas stay.
    fn config(&self, replicas: usize, found: Option<&Config>) -> Config {
        let found = found.cloned().unwrap_or_default();
        Config {
            name: self.name.clone(),
            description: Some("What happened to nodes, from Bellwether".to_owned()),
            subjects: vec![format!("{}.event.>", self.prefix)],
            storage: StorageType::File,
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            max_age: AGE_MAX,
            max_bytes: BYTES_MAX,
            max_messages: -1,
            max_messages_per_subject: -1,
            max_consumers: CONSUMERS_MAX,
            duplicate_window: SAME_WITHIN,
            num_replicas: replicas.max(found.num_replicas),
            ..found
        }
    }

    /// Publishes events and waits for their acknowledgements in order.
    pub(super) async fn publish(&self, events: &[HealthTransitionEvent]) -> Given {
        let link = self.link();
        let mut n_taken = 0_usize;
        for wave in waves(events) {
            let before = n_taken.checked_sub(1).map(|last| events[last].id);
            let (n, refused) = self.publish_wave(wave, before, link).await;
            n_taken += n;
            if refused.is_some() {
                return Given { n_taken, refused };
            }
        }
        Given {
            n_taken,
            refused: None,
        }
    }

    /// How many were acknowledged before the first failure; the stream may also hold some after it.
    async fn publish_wave(
        &self,
        events: &[HealthTransitionEvent],
        mut before: Option<EventId>,
        link: Option<u64>,
    ) -> (usize, Option<BusError>) {
        let mut answers = Vec::with_capacity(events.len());
        let mut refused = None;
        for event in events {
            if link.is_none() || self.link() != link {
                refused = Some(BusError::Away);
                break;
            }
            match self.send(event, before).await {
                Ok(answer) => {
                    answers.push(answer);
                    before = Some(event.id);
                }
                Err(error) => {
                    refused = Some(BusError::NotStored(error));
                    break;
                }
            }
        }
        let mut n_taken = 0;
        for answer in answers {
            match answer.await {
                Ok(_) => n_taken += 1,
                Err(error) => {
                    refused = Some(BusError::NotStored(error.into()));
                    break;
                }
            }
        }
        if let Some(error @ BusError::NotStored(_)) = &refused {
            self.tell(Some(error.to_string()));
            self.suspect.notify_one();
        }
        (n_taken, refused)
    }

    async fn send(
        &self,
        event: &HealthTransitionEvent,
        before: Option<EventId>,
    ) -> anyhow::Result<PublishAckFuture> {
        let mut message = PublishMessage::build()
            .payload(serde_json::to_vec(event)?.into())
            .message_id(event.id.to_string())
            .expected_stream(&self.name);
        let is_alone = self.n_copies.load(Ordering::Relaxed) == 1;
        if let Some(before) = before.filter(|_| is_alone) {
            message = message.expected_last_message_id(before.to_string());
        }
        let subject = format!("{}.event.transition.{}", self.prefix, event.node_id);
        Ok(self.jetstream.send_publish(subject, message).await?)
    }

    /// Logs once when the bus stops accepting events, and once when it accepts them again.
    fn tell(&self, trouble: Option<String>) {
        let was_told = self.trouble.send_replace(trouble.clone());
        match (was_told, trouble) {
            (None, Some(why)) => {
                tracing::warn!("the event bus accepts no events; they wait: {why}");
            }
            (Some(known), Some(why)) if known == NOT_YET => {
                tracing::warn!("the event bus accepts no events; they wait: {why}");
            }
            (Some(_), None) => tracing::info!("the event bus accepts events again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
    }
}

/// Whether the servers lack members or space for so many replicas. A server that only does not answer is retried.
fn has_no_place(error: &CreateStreamError) -> bool {
    let CreateStreamErrorKind::JetStream(error) = error.kind() else {
        return false;
    };
    [
        ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED,
        ErrorCode::CLUSTER_NO_PEERS,
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::NO_LIMITS,
    ]
    .contains(&error.error_code())
}

/// Splits a list in order into parts with at most one event per node and at most the number of messages in flight.
fn waves(events: &[HealthTransitionEvent]) -> Vec<&[HealthTransitionEvent]> {
    let mut nodes = BTreeSet::new();
    let mut waves = Vec::new();
    let mut first = 0;
    for (at, event) in events.iter().enumerate() {
        if nodes.contains(&event.node_id) || nodes.len() == IN_FLIGHT_MAX {
            waves.push(&events[first..at]);
            nodes.clear();
            first = at;
        }
        nodes.insert(event.node_id);
    }
    if first < events.len() {
        waves.push(&events[first..]);
    }
    waves
}

/// Locks a mutex that is never held across an await.
pub(super) fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use host_domain::event::Dimension;
    use host_domain::ids::NodeId;
    use host_domain::node::Condition;
    use host_domain::time::Millis;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn event(node: u16) -> HealthTransitionEvent {
        HealthTransitionEvent {
            id: EventId(Uuid::now_v7()),
            node_id: NodeId(Uuid::from_u128(node.into())),
            node_name: String::new(),
            chain_profile_id: String::new(),
            node_type: String::new(),
            dimension: Dimension::State,
            before: Condition::NEW,
            after: Condition::NEW,
            cause: String::new(),
            reasons: Vec::new(),
            state_version: 1,
            at: Millis(1),
        }
    }

    fn sizes(nodes: impl IntoIterator<Item = u16>) -> Vec<usize> {
        let events: Vec<_> = nodes.into_iter().map(event).collect();
        waves(&events).into_iter().map(<[_]>::len).collect()
    }

    #[test]
    fn a_wave_ends_before_a_node_comes_again_and_when_it_is_full() {
        assert_eq!(sizes([]), [0; 0]);
        assert_eq!(sizes([1, 2, 3]), [3]);
        assert_eq!(sizes([1, 1, 2, 1]), [1, 2, 1]);
        assert_eq!(sizes(0..1_001), [500, 500, 1]);
    }

    proptest! {
        #[test]
        fn waves_are_the_list_and_no_node_is_twice_in_one(
            nodes in proptest::collection::vec(0_u16..40, 0..200)
        ) {
            let events: Vec<_> = nodes.into_iter().map(event).collect();
            let waves = waves(&events);
            prop_assert_eq!(waves.concat(), events.clone());
            for wave in waves {
                let of_nodes: BTreeSet<_> = wave.iter().map(|event| event.node_id).collect();
                prop_assert!(!wave.is_empty() && of_nodes.len() == wave.len());
            }
        }
    }
}
