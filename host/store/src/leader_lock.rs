//! Who leads: on PostgreSQL who holds a session's advisory lock, on SQLite the only process there is.
//!
//! The lock lives on a connection of its own, never on a pooled one, and falls with it. A killed process loses it at once. A
//! frozen one keeps its connection open, so the server is told to end a session that has been silent for the lease; whoever
//! contends shows a sign of life more often than that.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection};

use super::db::Db;
use super::error::StoreError;
use super::pools::Pools;

/// One who may lead.
pub struct Contender(Option<Box<PgConnection>>);

impl fmt::Debug for Contender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Contender")
    }
}

impl Db {
    /// Joins those who may lead. One who shows no sign of life for `lease` is out.
    pub async fn contend(&self, lease: Duration) -> Result<Contender, StoreError> {
        let Pools::Postgres(pool) = self.pools() else {
            return Ok(Contender(None));
        };
        let lease = lease.as_millis().to_string();
        let connect = (*pool.connect_options())
            .clone()
            .application_name("bellwether leader")
            .options([
                ("idle_session_timeout", lease.as_str()),
                ("statement_timeout", lease.as_str()),
            ]);
        Ok(Contender(Some(Box::new(connect.connect().await?))))
    }
}

impl Contender {
    /// Takes the lead of `name` if nobody has it. Also a sign of life. Not to be called by who leads already.
    pub async fn try_lead(&mut self, name: &str) -> Result<bool, StoreError> {
        // PostgreSQL only: SQLite has one process and no such locks.
        const SQL: &str = "SELECT pg_try_advisory_lock($1)";
        let Some(connection) = &mut self.0 else {
            return Ok(true);
        };
        let tried = sqlx::query_scalar(SQL).bind(key(name));
        Ok(tried.fetch_one(&mut **connection).await?)
    }

    /// Shows a sign of life. An error means that the lead is lost.
    pub async fn renew(&mut self) -> Result<(), StoreError> {
        if let Some(connection) = &mut self.0 {
            connection.ping().await?;
        }
        Ok(())
    }

    /// Hands the lead over now.
    pub async fn leave(self) -> Result<(), StoreError> {
        if let Some(connection) = self.0 {
            connection.close().await?;
        }
        Ok(())
    }
}

/// The lock's number: the same in every process and version.
fn key(name: &str) -> i64 {
    let hash = Sha256::digest(format!("bellwether/{name}").as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(first)
}
