//! The event bus: how the hosts of one installation notify each other.
//!
//! Entry points: [`Bus::open`], [`Bus::run`], [`Bus::wake`], [`Bus::publish`] and [`Bus::attach`].
//!
//! The bus carries two kinds of messages. A wake-up says that there is work. The database holds the truth and every
//! waiter also polls, so a wake-up may be lost or repeated. A transition is an event that must arrive: the outbox
//! keeps it until the bus has accepted it, and the bus redelivers it until each consumer has accepted it; the event
//! id makes repeats harmless. Without NATS both stay in this process.
//!
//! Invariant: no other crate names the NATS client.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use host_domain::event::HealthTransitionEvent;
use host_domain::ids::{AgentId, OperationId};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

mod address;
mod config;
mod in_process;
pub mod metrics;
mod nats;

pub use config::{EventsConfig, NatsUrl};
pub use in_process::InProcess;
pub use nats::Nats;

/// The time limit for an answer of the servers.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Why another host should poll at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Wake {
    /// The event log has new entries.
    Log,
    /// A command waits for an agent.
    Commands {
        /// The agent.
        agent: AgentId,
    },
    /// An operation was accepted or cancelled, and its workflow does not know yet.
    Operation {
        /// The operation.
        operation: OperationId,
    },
    /// A workflow has a new message.
    Workflow {
        /// The workflow's id.
        workflow: String,
        /// The mailbox with the message.
        mailbox: String,
    },
    /// Wake-ups may have been lost: poll for everything.
    Everything,
}

/// The state of the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusState {
    /// The host runs without NATS, so there is no other host to notify.
    InProcess,
    /// Other hosts are notified at once, and events are accepted.
    Connected,
    /// Other hosts are notified at once, but events wait, for this reason.
    NoStream(String),
    /// Other hosts only poll, and events wait, for this reason.
    Away(String),
}

/// Receives transitions, each at least once and those of a node in order. Events in flight when a connection is lost,
/// or those that another host with the same consumer received, may break that order. Handling an event must be
/// idempotent by the event's id.
#[async_trait]
pub trait Consumer: Send + Sync + 'static {
    /// Handles an event. After an error the bus delivers the same event again.
    async fn take(&self, event: &HealthTransitionEvent) -> anyhow::Result<()>;
}

/// The result of publishing events.
#[derive(Debug)]
pub struct Given {
    /// How many of the first events were accepted.
    pub n_taken: usize,
    /// Why the next event was not accepted.
    pub refused: Option<BusError>,
}

/// Why the bus accepts no event now.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The servers are unreachable.
    #[error("the event bus is unavailable; events wait until the connection is back")]
    Away,
    /// The servers did not store the event.
    #[error("the servers of the event bus did not store an event; the event waits for a retry")]
    NotStored(#[source] anyhow::Error),
    /// A consumer in this process failed.
    #[error("`{consumer}` rejected an event; the event waits for a retry")]
    NotTaken {
        /// The consumer's name.
        consumer: &'static str,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
}

/// The bus of a host. Cheap to clone.
#[derive(Clone)]
pub enum Bus {
    /// The host runs without NATS.
    InProcess(InProcess),
    /// Through NATS servers.
    Nats(Nats),
}

impl Bus {
    /// Opens the bus by the settings. Startup does not wait for unavailable servers; the bus connects in the
    /// background.
    pub async fn open(config: &EventsConfig, host: &str) -> anyhow::Result<Self> {
        let Some(url) = config.address()? else {
            return Ok(Self::InProcess(InProcess::default()));
        };
        let prefix = config.checked_prefix()?;
        let address = address::parse(&url).context("`events.nats_url` is invalid")?;
        let nats = Nats::open(address, config.nats_ca_file.clone(), prefix, host);
        Ok(Self::Nats(
            nats.await.context("the event bus can't be opened")?,
        ))
    }

    /// Registers a consumer of this host before [`Bus::run`]. Hosts that register the same name share its events.
    pub fn attach(&self, name: &'static str, consumer: Arc<dyn Consumer>) {
        match self {
            Self::InProcess(here) => here.attach(name, consumer),
            Self::Nats(nats) => nats.attach(name, consumer),
        }
    }

    /// Keeps the connection, carries wake-ups and delivers events to consumers until `shutdown`.
    pub async fn run(&self, shutdown: &CancellationToken) {
        match self {
            Self::InProcess(_) => shutdown.cancelled().await,
            Self::Nats(nats) => nats.run(shutdown).await,
        }
    }

    /// Notifies the other hosts if there is a connection. It never waits.
    pub fn wake(&self, wake: Wake) {
        match self {
            Self::InProcess(_) => {}
            Self::Nats(nats) => nats.wake(wake),
        }
    }

    /// Subscribes to wake-ups of other hosts. A reader that is too slow loses some and must poll for everything.
    pub fn wakes(&self) -> Option<broadcast::Receiver<Wake>> {
        match self {
            Self::InProcess(_) => None,
            Self::Nats(nats) => Some(nats.wakes()),
        }
    }

    /// The state of the bus.
    pub fn state(&self) -> BusState {
        match self {
            Self::InProcess(_) => BusState::InProcess,
            Self::Nats(nats) => nats.state(),
        }
    }

    /// Publishes transitions in order. The caller may forget accepted events after [`Bus::keeps`].
    pub async fn publish(&self, events: &[HealthTransitionEvent]) -> Given {
        match self {
            Self::InProcess(here) => here.publish(events).await,
            Self::Nats(nats) => nats.publish(events).await,
        }
    }

    /// How long the caller keeps accepted events to publish them again when [`Bus::link`] changes: servers
    /// acknowledge events before their disks have them. Repeats are harmless.
    pub fn keeps(&self) -> Duration {
        match self {
            Self::InProcess(_) => Duration::ZERO,
            Self::Nats(_) => nats::KEPT,
        }
    }

    /// The number of the current connection, which grows with each new one; `None` while events are not accepted.
    pub fn link(&self) -> Option<u64> {
        match self {
            Self::InProcess(_) => Some(0),
            Self::Nats(nats) => nats.link(),
        }
    }

    /// The lag of each consumer of this host, as last reported by the servers.
    pub fn lags(&self) -> Vec<(&'static str, u64)> {
        match self {
            // The outbox holds what no consumer has accepted yet.
            Self::InProcess(_) => Vec::new(),
            Self::Nats(nats) => nats.lags(),
        }
    }
}
