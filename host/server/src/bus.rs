//! The event bus: how the hosts of one installation tell each other that there is something to do.
//!
//! The truth stays in the database, and every waiter also looks by itself from time to time. So a wake-up carries no data
//! that counts, may be lost, and may come twice; it only makes the next look happen at once. Without NATS a host tells only
//! itself. Nothing outside this module names the client of NATS.

use std::time::Duration;

use anyhow::Context;
use host_domain::ids::{AgentId, OperationId};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::config::EventsConfig;

mod address;
mod nats;

use nats::Nats;

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
    /// Other hosts are told at once.
    Connected,
    /// Other hosts look by themselves only; why.
    Away(String),
}

/// The bus of a host. Cheap to clone.
#[derive(Clone)]
pub enum Bus {
    /// This host has nobody to tell.
    InProcess,
    /// Through NATS servers.
    Nats(Nats),
}

impl Bus {
    /// As the settings say. Servers that are away are waited for in the background: a start does not depend on them.
    pub async fn open(config: &EventsConfig, host: &str) -> anyhow::Result<Self> {
        let Some(url) = config.address()? else {
            return Ok(Self::InProcess);
        };
        let prefix = config.checked_prefix()?;
        let address = address::parse(&url).context("`events.nats_url` can't be used")?;
        let nats = Nats::open(address, config.nats_ca_file.clone(), prefix, host);
        Ok(Self::Nats(
            nats.await.context("the event bus can't be used")?,
        ))
    }

    /// Keeps the connection and carries wake-ups until `shutdown`.
    pub async fn run(&self, shutdown: &CancellationToken) {
        match self {
            Self::InProcess => shutdown.cancelled().await,
            Self::Nats(nats) => nats.run(shutdown).await,
        }
    }

    /// Tells the other hosts, if there is a way to them now. It never waits.
    pub fn wake(&self, wake: Wake) {
        match self {
            Self::InProcess => {}
            Self::Nats(nats) => nats.wake(wake),
        }
    }

    /// What other hosts tell from now on. Who reads too slowly has lost some, and looks at everything.
    pub fn wakes(&self) -> Option<broadcast::Receiver<Wake>> {
        match self {
            Self::InProcess => None,
            Self::Nats(nats) => Some(nats.wakes()),
        }
    }

    /// How it does.
    pub fn state(&self) -> BusState {
        match self {
            Self::InProcess => BusState::InProcess,
            Self::Nats(nats) => nats.state(),
        }
    }
}

/// The longest wait for an answer of the servers.
const ANSWER_MAX: Duration = Duration::from_secs(5);
