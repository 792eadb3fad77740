//! The event bus: how the hosts of one installation tell each other what happens.
//!
//! It carries two things. A wake-up says that there is something to do: the truth stays in the database, and every waiter also
//! looks by itself, so a wake-up may be lost and may come twice. A transition is an event that must arrive: the outbox holds it
//! until the bus has taken it, and the bus offers it to each consumer until that has taken it; an event's id makes repeats
//! harmless. Without NATS both stay in this process. Nothing outside this module names the client of NATS.

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

/// The longest wait for an answer of the servers.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Why another host should look at once.
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
    /// Something happened that a workflow waits for.
    Workflow {
        /// The workflow's id.
        workflow: String,
        /// Where it waits.
        mailbox: String,
    },
    /// Wake-ups may have been lost: look at everything.
    Everything,
}

/// How the bus does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusState {
    /// There is no other host that could be told.
    InProcess,
    /// Other hosts are told at once, and events are taken.
    Connected,
    /// Other hosts are told at once, but events wait; why.
    NoStream(String),
    /// Other hosts look by themselves only, and events wait; why.
    Away(String),
}

/// Who is told of transitions: each at least once, those of a node in their order, but for what was on its way when a
/// connection was lost or what another host that shares the consumer was given. What it does is safe to repeat by the event's
/// id.
#[async_trait]
pub trait Consumer: Send + Sync + 'static {
    /// Does what follows from an event. After an error the same event is offered again.
    async fn take(&self, event: &HealthTransitionEvent) -> anyhow::Result<()>;
}

/// What became of events that the bus was given.
#[derive(Debug)]
pub struct Given {
    /// So many of them, from the first one on, were taken.
    pub n_taken: usize,
    /// Why the next one was not.
    pub refused: Option<BusError>,
}

/// Why the bus takes no event now.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// There is no way to the servers.
    #[error("the event bus is away; events wait until it is back")]
    Away,
    /// The servers did not store it.
    #[error("the servers of the event bus did not store an event; it waits")]
    NotStored(#[source] anyhow::Error),
    /// A consumer in this process failed.
    #[error("`{consumer}` could not take an event; it waits")]
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
    /// This host has nobody else to tell.
    InProcess(InProcess),
    /// Through NATS servers.
    Nats(Nats),
}

impl Bus {
    /// As the settings say. Servers that are away are waited for in the background: a start does not depend on them.
    pub async fn open(config: &EventsConfig, host: &str) -> anyhow::Result<Self> {
        let Some(url) = config.address()? else {
            return Ok(Self::InProcess(InProcess::default()));
        };
        let prefix = config.checked_prefix()?;
        let address = address::parse(&url).context("`events.nats_url` can't be used")?;
        let nats = Nats::open(address, config.nats_ca_file.clone(), prefix, host);
        Ok(Self::Nats(
            nats.await.context("the event bus can't be used")?,
        ))
    }

    /// Names a consumer of this host, before [`Bus::run`]. Hosts that name the same one share its events.
    pub fn attach(&self, name: &'static str, consumer: Arc<dyn Consumer>) {
        match self {
            Self::InProcess(here) => here.attach(name, consumer),
            Self::Nats(nats) => nats.attach(name, consumer),
        }
    }

    /// Keeps the connection, carries wake-ups and hands events to consumers until `shutdown`.
    pub async fn run(&self, shutdown: &CancellationToken) {
        match self {
            Self::InProcess(_) => shutdown.cancelled().await,
            Self::Nats(nats) => nats.run(shutdown).await,
        }
    }

    /// Tells the other hosts, if there is a way to them now. It never waits.
    pub fn wake(&self, wake: Wake) {
        match self {
            Self::InProcess(_) => {}
            Self::Nats(nats) => nats.wake(wake),
        }
    }

    /// What other hosts tell from now on. Who reads too slowly has lost some, and looks at everything.
    pub fn wakes(&self) -> Option<broadcast::Receiver<Wake>> {
        match self {
            Self::InProcess(_) => None,
            Self::Nats(nats) => Some(nats.wakes()),
        }
    }

    /// How it does.
    pub fn state(&self) -> BusState {
        match self {
            Self::InProcess(_) => BusState::InProcess,
            Self::Nats(nats) => nats.state(),
        }
    }

    /// Gives transitions to the bus, in their order. What was taken is not the caller's any more, but for [`Bus::keeps`].
    pub async fn publish(&self, events: &[HealthTransitionEvent]) -> Given {
        match self {
            Self::InProcess(here) => here.publish(events).await,
            Self::Nats(nats) => nats.publish(events).await,
        }
    }

    /// How long what was taken is kept, to be given again when [`Bus::link`] changes: servers answer before their disks have
    /// an event. A repeat of an event that is there changes nothing.
    pub fn keeps(&self) -> Duration {
        match self {
            Self::InProcess(_) => Duration::ZERO,
            Self::Nats(_) => nats::KEPT,
        }
    }

    /// Which way to the bus there is now, counted up with each new one; `None` while events can't be taken.
    pub fn link(&self) -> Option<u64> {
        match self {
            Self::InProcess(_) => Some(0),
            Self::Nats(nats) => nats.link(),
        }
    }

    /// How many events each consumer of this host is behind, as far as the servers said.
    pub fn lags(&self) -> Vec<(&'static str, u64)> {
        match self {
            // What is not taken yet is in the outbox.
            Self::InProcess(_) => Vec::new(),
            Self::Nats(nats) => nats.lags(),
        }
    }
}
