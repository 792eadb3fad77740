//! Delivers the stream's events to the consumers of this host, each through a durable JetStream consumer.

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

/// An event without an acknowledgement in this time is redelivered, possibly to another host.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// The maximum of delivered events without an acknowledgement.
const OFFERED_MAX: i64 = 1_000;
/// How many events one request fetches.
const BATCH: usize = 200;
/// How often servers without events send a heartbeat.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// The longest pause before an event that a consumer rejected is redelivered.
const AGAIN_MAX: Duration = Duration::from_secs(10);
/// How often the host queries the lag of consumers.
const MEASURED_EVERY: Duration = Duration::from_secs(10);

impl Stream {
    pub(super) fn attach(&self, name: &'static str, consumer: Arc<dyn Consumer>) {
        held(&self.consumers).push((name, consumer));
    }

    pub(super) fn lags(&self) -> Vec<(&'static str, u64)> {
        let behind = held(&self.behind);
        behind.iter().map(|(name, n)| (*name, *n)).collect()
    }

    /// Finds a durable consumer or creates it. A consumer with the right settings stays unchanged, like the stream.
    pub(super) async fn make_consumer(&self, name: &str) -> anyhow::Result<PullConsumer> {
        let wished = Config {
            durable_name: Some(name.to_owned()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ANSWERED_WITHIN,
            max_ack_pending: OFFERED_MAX,
            // Redelivery never ends; the lag metric shows a consumer that never accepts an event.
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
            .with_context(|| format!("the consumer `{name}` of the event bus can't be created"))
    }

    /// Delivers events until the client is closed.
    pub(super) async fn consume(&self, name: &'static str, consumer: Arc<dyn Consumer>) {
        let mut link = self.link.subscribe();
        while link.wait_for(Option::is_some).await.is_ok() {
            let Err(error) = self.take_all(name, &*consumer).await;
            tracing::debug!(consumer = name, "the host fetches events again: {error:#}");
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
                .context("the servers closed the delivery of events")??;
            take(name, consumer, &message).await?;
        }
    }

    /// Updates the lag metric of each consumer.
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

/// Whether a consumer has this version's settings; defaults that servers fill in are ignored.
fn is_as(found: &consumer::Config, wished: &Config) -> bool {
    found.ack_policy == wished.ack_policy
        && found.ack_wait == wished.ack_wait
        && found.max_ack_pending == wished.max_ack_pending
        && found.max_deliver == wished.max_deliver
}

/// Delivers one event until the consumer accepts it, then acknowledges it. Later events wait, so that a node's events
/// stay in order.
async fn take(name: &str, consumer: &dyn Consumer, message: &Message) -> anyhow::Result<()> {
    let event = match serde_json::from_slice(&message.payload) {
        Ok(event) => event,
        Err(error) => {
            // An event of another version or another program: no retry makes it readable.
            crate::metrics::unreadable();
            tracing::warn!(
                consumer = name,
                "the host drops an event that it can't parse: {error}"
            );
            return answer(message, AckKind::Term).await;
        }
    };
    let mut pause = Duration::from_millis(100);
    let mut is_told = false;
    while let Err(error) = consumer.take(&event).await {
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!(consumer = name, event.id = %event.id, "the consumer rejected an event; the host retries until the consumer accepts it: {error:#}");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
        answer(message, AckKind::Progress).await?;
    }
    answer(message, AckKind::Ack).await
}

async fn answer(message: &Message, kind: AckKind) -> anyhow::Result<()> {
    let sent = tokio::time::timeout(ANSWER_MAX, message.ack_with(kind)).await;
    sent.context("the acknowledgement of an event can't be sent to the servers")?
        .map_err(|error| anyhow::anyhow!(error))
}
