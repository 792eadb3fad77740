//! The readiness of this process, part by part.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::agent_link::AgentLink;
use super::key_backup::Keys;
use super::records::Records;
use super::workflow_engine::WorkflowEngine;
use crate::catalogue::Chains;
use host_bus::BusState;
use host_engine::EngineKind;

/// Longest time that a part may take to respond.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// A workflow that is never started: its status shows that the engine responds, and reads one row at most.
const NO_WORKFLOW: &str = "readiness";

/// The readiness of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartReadiness {
    /// `database`, `engine`, `keys`, `gateway`, `chains`, `events`, `process`.
    pub part: &'static str,
    /// Whether it does its work.
    pub is_ready: bool,
    /// Whether requests can be served without it, only later or from further away.
    pub is_spare: bool,
    /// What it does, or what is wrong and what to do.
    pub detail: String,
}

/// Checks the parts of this process.
#[derive(Clone)]
pub struct Readiness {
    pub(crate) records: Records,
    pub(crate) chains: Chains,
    pub(crate) engine: WorkflowEngine,
    /// Which engine the settings name.
    pub(crate) engine_kind: EngineKind,
    pub(crate) keys: Keys,
    pub(crate) agents: AgentLink,
    pub(crate) shutdown: CancellationToken,
}

impl Readiness {
    /// Every part that a request may need.
    pub async fn check(&self) -> Vec<PartReadiness> {
        vec![
            self.database_readiness().await,
            self.engine_readiness().await,
            answers("keys", self.keys.keyring.newest()).await,
            self.gateway_readiness(),
            self.chains_readiness(),
            self.events_readiness(),
            self.shutdown_readiness(),
        ]
    }

    async fn database_readiness(&self) -> PartReadiness {
        answers("database", self.records.db.event_log_last_seq()).await
    }

    async fn engine_readiness(&self) -> PartReadiness {
        match self.engine.local() {
            Some(engine) => PartReadiness {
                // A host keeps operations until its Temporal is reachable again; an own engine that does not respond is a failure.
                is_spare: self.engine_kind == EngineKind::Temporal,
                ..answers("engine", engine.status(NO_WORKFLOW)).await
            },
            None => PartReadiness {
                part: "engine",
                is_ready: true,
                is_spare: false,
                detail: "runs on another host of this database".to_owned(),
            },
        }
    }

    fn gateway_readiness(&self) -> PartReadiness {
        let is_ready = self.agents.sessions.is_served();
        let detail = if is_ready {
            format!("{} agents connected", self.agents.sessions.connected())
        } else {
            "does not listen; the log says why, start the host again".to_owned()
        };
        PartReadiness {
            part: "gateway",
            is_ready,
            is_spare: false,
            detail,
        }
    }

    fn chains_readiness(&self) -> PartReadiness {
        let n_chains = self.chains.list().len();
        let detail = match n_chains {
            0 => "no chain is configured; add a folder to chain-configs/".to_owned(),
            n => format!("{n} configured"),
        };
        PartReadiness {
            part: "chains",
            is_ready: n_chains > 0,
            is_spare: false,
            detail,
        }
    }

    fn events_readiness(&self) -> PartReadiness {
        let (is_ready, detail) = match self.agents.bus.state() {
            BusState::InProcess => (true, "in this process".to_owned()),
            BusState::Connected => (true, connected(&self.agents.bus.lags())),
            BusState::NoStream(why) => (false, format!("stores no events, they wait: {why}")),
            BusState::Away(why) => (false, format!("{why}; events wait, hosts poll")),
        };
        PartReadiness {
            part: "events",
            is_ready,
            is_spare: true,
            detail,
        }
    }

    fn shutdown_readiness(&self) -> PartReadiness {
        let is_ready = !self.shutdown.is_cancelled();
        let detail = if is_ready {
            "serves"
        } else {
            "is ending; ask another replica"
        };
        PartReadiness {
            part: "process",
            is_ready,
            is_spare: false,
            detail: detail.to_owned(),
        }
    }
}

fn connected(lags: &[(&'static str, u64)]) -> String {
    let lags = lags.iter();
    let behind = lags.map(|(consumer, n)| format!("; `{consumer}` is {n} events behind"));
    format!("connected{}", behind.collect::<String>())
}

/// Sends a small request to a part, with a timeout.
async fn answers<T, E: std::fmt::Display>(
    part: &'static str,
    answer: impl Future<Output = Result<T, E>>,
) -> PartReadiness {
    let (is_ready, detail) = match tokio::time::timeout(ANSWER_MAX, answer).await {
        Ok(Ok(_)) => (true, "answers".to_owned()),
        Ok(Err(error)) => {
            tracing::warn!(part, "not ready: {error:#}");
            (false, "answers with an error; the log has it".to_owned())
        }
        Err(_) => (
            false,
            format!("did not answer within {} s", ANSWER_MAX.as_secs()),
        ),
    };
    PartReadiness {
        part,
        is_ready,
        is_spare: false,
        detail,
    }
}
