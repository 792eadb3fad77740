//! The stream of transitions: made by the host itself, filled in order, each event once.
//!
//! An event's id is its message's id, so that within [`SAME_WITHIN`] a repeat is not stored again. A server answers before its
//! disk has a message (it syncs every two minutes by default, and 2.9 even flushes later), so what was taken is kept for
//! [`KEPT`] by the caller and given again over each new connection. Messages are sent many at once, but of a node one at a
//! time: whatever of them is lost with a connection, no event of a node is stored before the one that it follows.
//!
//! A stream of one copy may also lose what it has answered for. There each message asks to follow the one before it
//! (`Nats-Expected-Last-Msg-Id`), so that behind the gap nothing is stored. One of several copies loses no such message, and
//! must not be asked: on servers from 2.14 on a message behind a gap ends it for good (seen with 2.15.1: `critical write
//! error: last msgid mismatch`).

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

/// How long what was taken is kept to be given again: longer than servers wait before they sync.
pub(crate) const KEPT: Duration = Duration::from_mins(3);
/// Within this time a message with the same id is not stored again: longer than it is kept.
const SAME_WITHIN: Duration = Duration::from_mins(10);
/// How long a transition stays, for consumers that are behind.
const AGE_MAX: Duration = Duration::from_hours(7 * 24);
/// What the stream may take on disk; beyond it the oldest go.
const BYTES_MAX: i64 = 512 << 20;
/// Consumers that a stream may have.
const CONSUMERS_MAX: i32 = 64;
/// Copies where there are servers for them; otherwise one.
const REPLICAS: usize = 3;
/// Messages whose answers are waited for at once.
const IN_FLIGHT_MAX: usize = 500;
/// Until the stream is made or found.
const NOT_YET: &str = "the stream of transitions is not set up yet";

/// The stream, and who consumes it here.
pub(super) struct Stream {
    pub(super) jetstream: Context,
    pub(super) name: String,
    prefix: String,
    connection: watch::Sender<Connection>,
    /// Counts the times that the stream was found in order.
    pub(super) link: watch::Sender<Option<u64>>,
    trouble: watch::Sender<Option<String>>,
    /// Something went wrong that setting up anew may mend.
    suspect: Notify,
    /// Copies of the stream, as it was found or made last.
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

    /// What keeps events from being taken, while there is a connection.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    pub(super) fn link(&self) -> Option<u64> {
        self.connection.borrow().is_up.then_some(())?;
        *self.link.borrow()
    }

    /// Keeps the stream in order and hands its events to consumers, for as long as there is a client.
    pub(super) async fn run(&self) {
        let consumers = held(&self.consumers).clone();
        let consuming = consumers
            .into_iter()
            .map(|(name, consumer)| self.consume(name, consumer));
        tokio::join!(self.keep(), join_all(consuming), self.measure());
    }

    /// Sets the stream up over each new connection, and when it is suspected.
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

    /// Makes the stream, or brings it in order: with three copies where there are servers for them. Copies that are there are
    /// not given up because a server is away. A stream that is in order is left alone: servers of which one is away read, but
    /// may not answer to a change for long.
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
                    let what = format!("the stream `{}` can't be made", self.name);
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
                _ => Err(error).context("JetStream does not answer; is it enabled?"),
            },
        }
    }

    /// What the stream should be; what people set beside this, and further copies, stay as they are.
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

    /// Gives events to the servers and waits for their answers, which come in the order of the events.
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

    /// How many were taken before the first that was not; what came behind that one may be stored all the same.
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

    /// Says once what is wrong, and once that nothing is any more.
    fn tell(&self, trouble: Option<String>) {
        let was_told = self.trouble.send_replace(trouble.clone());
        match (was_told, trouble) {
            (None, Some(why)) => tracing::warn!("the event bus takes no events, they wait: {why}"),
            (Some(known), Some(why)) if known == NOT_YET => {
                tracing::warn!("the event bus takes no events, they wait: {why}");
            }
            (Some(_), None) => tracing::info!("the event bus takes events"),
            (None, None) | (Some(_), Some(_)) => {}
        }
    }
}

/// Whether there are no servers, or not the room, for so many copies; one that only does not answer now is asked again.
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

/// Parts of a list, in its order, none with a node twice and none longer than may be in flight.
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

/// What is behind a lock that is never held over a wait.
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
