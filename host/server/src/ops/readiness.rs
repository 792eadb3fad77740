//! Whether this process can do its work, part by part.

use std::time::Duration;

use crate::app::App;

/// Longest time that the database may take to say something.
const DATABASE_MAX: Duration = Duration::from_secs(2);

/// How one part does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartReadiness {
    /// `database`, `chains`, `shutdown`.
    pub part: &'static str,
    /// Whether it does its work.
    pub is_ready: bool,
    /// What it does, or what is wrong and what to do.
    pub detail: String,
}

impl App {
    /// Every part that a request may need.
    pub async fn readiness(&self) -> Vec<PartReadiness> {
        vec![
            self.database_readiness().await,
            self.chains_readiness(),
            self.shutdown_readiness(),
        ]
    }

    async fn database_readiness(&self) -> PartReadiness {
        let asked = tokio::time::timeout(DATABASE_MAX, self.db.event_log_last_seq()).await;
        let (is_ready, detail) = match asked {
            Ok(Ok(_)) => (true, "answers".to_owned()),
            Ok(Err(_)) => (false, "answers with an error; the log has it".to_owned()),
            Err(_) => (
                false,
                format!("did not answer within {} s", DATABASE_MAX.as_secs()),
            ),
        };
        PartReadiness {
            part: "database",
            is_ready,
            detail,
        }
    }

    fn chains_readiness(&self) -> PartReadiness {
        let n_chains = self.list_chains().len();
        let detail = match n_chains {
            0 => "no chain is configured; add a folder to chain-configs/".to_owned(),
            n => format!("{n} configured"),
        };
        PartReadiness {
            part: "chains",
            is_ready: n_chains > 0,
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
            detail: detail.to_owned(),
        }
    }
}
