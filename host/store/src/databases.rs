//! Connection pools per role of the host, each with its own size and time limits.
//!
//! A role that uses all its connections, or waits for slow statements, does not affect the others: heartbeats
//! continue while a user lists a million rows.

use std::time::Duration;

use crate::{Db, DbOptions, StoreError};

/// A part of the host with its own connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// HTTP requests.
    Api,
    /// Agents.
    Gateway,
    /// Workflows, and the configuration of chains.
    Orchestrator,
    /// Evaluating nodes, and what follows from it.
    Health,
}

impl Role {
    fn options(self) -> DbOptions {
        let (connections_max, statement) = match self {
            Self::Api | Self::Gateway => (10, Duration::from_secs(2)),
            Self::Orchestrator => (10, Duration::from_secs(10)),
            Self::Health => (5, Duration::from_secs(5)),
        };
        DbOptions {
            create: false,
            connections_max,
            // A caller that waits this long gets an error instead of waiting forever.
            acquire_timeout: statement.max(Duration::from_secs(3)),
            statement_timeout: statement,
            idle_in_transaction: Duration::from_secs(10),
        }
    }
}

/// One database with the connections of every role.
#[derive(Debug)]
pub struct Databases {
    api: Db,
    gateway: Db,
    orchestrator: Db,
    health: Db,
}

impl Databases {
    /// Opens the pools of all roles. On SQLite all roles share one pool.
    pub async fn of(db: &Db) -> Result<Self, StoreError> {
        Ok(Self {
            api: db.with_options(&Role::Api.options()).await?,
            gateway: db.with_options(&Role::Gateway.options()).await?,
            orchestrator: db.with_options(&Role::Orchestrator.options()).await?,
            health: db.with_options(&Role::Health.options()).await?,
        })
    }

    /// The pool of a role.
    pub fn role(&self, role: Role) -> &Db {
        match role {
            Role::Api => &self.api,
            Role::Gateway => &self.gateway,
            Role::Orchestrator => &self.orchestrator,
            Role::Health => &self.health,
        }
    }

    /// Closes every connection.
    pub async fn close(&self) {
        for role in [Role::Gateway, Role::Orchestrator, Role::Health, Role::Api] {
            self.role(role).close().await;
        }
    }
}
