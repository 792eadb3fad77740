//! The two kinds of installation on which a crash must end the same: SQLite and duroxide in the host's own process, and
//! PostgreSQL and Temporal beside it.

use std::path::PathBuf;

use serde_json::json;

use crate::support::dev::Dev;
use crate::support::postgres::Postgres;
use crate::support::temporal::Temporal;

/// An installation with the example chain, and what it stands on.
pub(super) struct Scene {
    pub(super) dev: Dev,
    scaled: Option<Servers>,
}

/// What a scaled installation stands on; it ends with the scene.
struct Servers {
    postgres: Postgres,
    temporal: Temporal,
    database: String,
}

impl Scene {
    /// `bellwether dev`: one process on SQLite, with the agent in it, that makes the chain's node by itself.
    pub(super) fn embedded() -> Self {
        Self {
            dev: Dev::new(&[]),
            scaled: None,
        }
    }

    /// `bellwether serve` on PostgreSQL and Temporal, with an agent beside it; `None` where there is no PostgreSQL.
    pub(super) async fn scaled() -> Option<Self> {
        let postgres = Postgres::start().await?;
        let temporal = Temporal::shared().await;
        let database = postgres.empty_database().await;
        let mut dev = Dev::serve(&database);
        dev.work_for(&temporal);
        assert!(dev.command(&["migrate"]).0);
        let servers = Servers {
            postgres,
            temporal,
            database,
        };
        Some(Self {
            dev,
            scaled: Some(servers),
        })
    }

    /// Whether it is PostgreSQL and Temporal.
    pub(super) fn is_scaled(&self) -> bool {
        self.scaled.is_some()
    }

    /// Lets the agent be a process of its own, which can be killed.
    pub(super) fn with_own_agent(mut self) -> Self {
        if self.scaled.is_none() {
            self.dev = Dev::new(&["--no-agent"]);
        }
        self
    }

    /// `bellwether serve` on either kind, with an agent beside it, that makes no node by itself.
    pub(super) fn served(mut self) -> Self {
        if self.scaled.is_none() {
            self.dev = Dev::serve_embedded();
        }
        self
    }

    /// Where the installation's database is.
    pub(super) fn database(&self) -> String {
        let file = self.dev.path(".bellwether/bellwether.db");
        match &self.scaled {
            Some(servers) => servers.database.clone(),
            None => format!("sqlite://{}", file.display()),
        }
    }

    /// Where the servers of the installation keep their files.
    pub(super) fn server_folders(&self) -> Vec<PathBuf> {
        let servers = self.scaled.iter();
        let folders =
            servers.flat_map(|servers| [servers.postgres.folder(), servers.temporal.folder()]);
        folders.flatten().collect()
    }

    /// Up to the moment when the node is asked for: from now on each start of the host goes on with it.
    pub(super) async fn ask_for_a_node(&mut self) {
        if self.scaled.is_some() {
            self.dev.start().await;
            self.dev.start_agent().await;
            self.dev
                .post("nodes", &json!({ "chain": "anvil-devnet" }))
                .await;
            self.dev.keep_addresses().await;
            self.dev.kill_host();
        }
    }

    /// Host and agent run and the node is healthy.
    pub(super) async fn healthy(&mut self) -> serde_json::Value {
        self.ask_for_a_node().await;
        self.dev.start().await;
        self.dev.healthy().await
    }

    /// How many folders of nodes are left on the agent's disk.
    pub(super) fn n_folders(&self) -> usize {
        let agent = if self.scaled.is_some() {
            "agent/nodes"
        } else {
            ".bellwether/agent/nodes"
        };
        std::fs::read_dir(self.dev.path(agent)).map_or(0, Iterator::count)
    }
}

/// Each case as a test on either kind.
macro_rules! on_both_kinds {
    ($($case:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $case() {
                super::$case($crate::spine::scene::Scene::embedded()).await;
            })+
        }

        mod scaled {
            $(#[tokio::test]
            async fn $case() {
                if let Some(scene) = $crate::spine::scene::Scene::scaled().await {
                    super::$case(scene).await;
                }
            })+
        }
    };
}
pub(super) use on_both_kinds;
