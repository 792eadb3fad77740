//! Handing the stream's events to the consumers of this host, each through a durable consumer that the servers keep.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, PullConsumer};
use async_nats::jetstream::{AckKind, Message};
use futures_util::StreamExt;

use super::stream::{Stream, held};
use crate::{ANSWER_MAX, Consumer};

/// An event that is not answered for in this time is offered again, also to another host.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// Events that may be offered and not answered for yet.
const OFFERED_MAX: i64 = 1_000;
/// Events that are asked for at once.
const BATCH: usize = 200;
/// Servers that have nothing to offer say so this often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// The longest pause before an event that a consumer could not take is offered to it again.
const AGAIN_MAX: Duration = Duration::from_secs(10);
/// The servers are asked this often how far consumers are behind.
const MEASURED_EVERY: Duration = Duration::from_secs(10);

impl Stream {
    pub(super) fn attach(&self, name: &'static str, consumer: Arc<dyn Consumer>) {
        held(&self.consumers).push((name, consumer));
    }

    pub(super) fn lags(&self) -> Vec<(&'static str, u64)> {
        let behind = held(&self.behind);
        behind.iter().map(|(name, n)| (*name, *n)).collect()
    }

    /// Finds a durable consumer, or makes it. One that is in order is left alone, as the stream is.
    pub(super) async fn make_consumer(&self, name: &str) -> anyhow::Result<PullConsumer> {
        let wished = Config {
            durable_name: Some(name.to_owned()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ANSWERED_WITHIN,
            max_ack_pending: OFFERED_MAX,
            // An event is offered until it is taken; how far a consumer is behind shows one that never is.
            max_deliver: -1,
            ..Config::default()
        };
        let found = self.jetstream.get_consumer_from_stream(name, &self.name);
        let found: Result<PullConsumer, _> = found.await;
        if let Ok(found) = found
            && is_as(&found.cached_info().config, &wished)
        {
            return Ok(found);
        }
        let made = self.jetstream.create_consumer_on_stream(wished, &self.name);
        made.await
            .with_context(|| format!("the consumer `{name}` of the event bus can't be made"))
    }

    /// Hands over events for as long as there is a client.
    pub(super) async fn consume(&self, name: &'static str, consumer: Arc<dyn Consumer>) {
        let mut link = self.link.subscribe();
        while link.wait_for(Option::is_some).await.is_ok() {
            let Err(error) = self.take_all(name, &*consumer).await;
            tracing::debug!(consumer = name, "events are asked for anew: {error:#}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn take_all(&self, name: &str, consumer: &dyn Consumer) -> anyhow::Result<Infallible> {
        let source = self.make_consumer(name).await?;
        let asked = source
            .stream()
            .max_messages_per_batch(BATCH)
            .heartbeat(SIGN_OF_LIFE);
        let mut messages = asked.messages().await?;
        loop {
            let message = messages
                .next()
                .await
                .context("the servers offer no more")??;
            take(name, consumer, &message).await?;
        }
    }

    /// Keeps the figures of how far each consumer is behind.
    pub(super) async fn measure(&self) {
        loop {
            tokio::time::sleep(MEASURED_EVERY).await;
            let names: Vec<_> = held(&self.consumers)
                .iter()
                .map(|(name, _)| *name)
                .collect();
            for name in names {
                let found = self.jetstream.get_consumer_from_stream(name, &self.name);
                let Ok(found): Result<PullConsumer, _> = found.await else {
                    continue;
                };
                let info = found.cached_info();
                let behind = info.num_pending + info.num_ack_pending as u64;
                crate::metrics::consumer_lag(name, behind);
                held(&self.behind).insert(name, behind);
            }
        }
    }
}

/// Whether a consumer is as this version wishes it; what servers fill in beside that is theirs.
fn is_as(found: &consumer::Config, wished: &Config) -> bool {
    found.ack_policy == wished.ack_policy
        && found.ack_wait == wished.ack_wait
        && found.max_ack_pending == wished.max_ack_pending
        && found.max_deliver == wished.max_deliver
}

/// Offers one event until it is taken, and says so to the servers. Those behind it wait, so that a node's stay in order.
async fn take(name: &str, consumer: &dyn Consumer, message: &Message) -> anyhow::Result<()> {
    let event = match serde_json::from_slice(&message.payload) {
        Ok(event) => event,
        Err(error) => {
            // Of a host of another version, or of somebody else: no repeat makes it readable.
            crate::metrics::unreadable();
            tracing::warn!(consumer = name, "an event can't be read: {error}");
            return answer(message, AckKind::Term).await;
        }
    };
    let mut pause = Duration::from_millis(100);
    let mut is_told = false;
    while let Err(error) = consumer.take(&event).await {
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!(consumer = name, event.id = %event.id, "an event is offered until it is taken: {error:#}");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
        answer(message, AckKind::Progress).await?;
    }
    answer(message, AckKind::Ack).await
}

async fn answer(message: &Message, kind: AckKind) -> anyhow::Result<()> {
    let sent = tokio::time::timeout(ANSWER_MAX, message.ack_with(kind)).await;
    sent.context("the servers can't be told")?
        .map_err(|error| anyhow::anyhow!(error))
}
