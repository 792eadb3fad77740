//! Leader election: on PostgreSQL by a session's advisory lock, on SQLite by being the only process.
//!
//! The lock belongs to its own connection, never to a pooled one, and ends with it. A killed process loses it at
//! once. A frozen process keeps its connection open, so the server ends a session that is idle for longer than the
//! lease; each contender sends a query more often than that.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection};

use super::db::Db;
use super::error::StoreError;
use super::pools::Pools;

/// A process that may become the leader.
pub struct Contender(Option<Box<PgConnection>>);

impl fmt::Debug for Contender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Contender")
    }
}

impl Db {
    /// Joins the election. A contender that sends no query for `lease` loses its session.
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
    /// Tries to become the leader of `name`. Also renews the session. A leader must not call it.
    pub async fn try_lead(&mut self, name: &str) -> Result<bool, StoreError> {
        // Only for PostgreSQL: SQLite has one process and no advisory locks.
        const SQL: &str = "SELECT pg_try_advisory_lock($1)";
        let Some(connection) = &mut self.0 else {
            return Ok(true);
        };
        let tried = sqlx::query_scalar(SQL).bind(key(name));
        Ok(tried.fetch_one(&mut **connection).await?)
    }

    /// Renews the session. An error means that the leadership is lost.
    pub async fn renew(&mut self) -> Result<(), StoreError> {
        if let Some(connection) = &mut self.0 {
            connection.ping().await?;
        }
        Ok(())
    }

    /// Gives up the leadership now.
    pub async fn leave(self) -> Result<(), StoreError> {
        if let Some(connection) = self.0 {
            connection.close().await?;
        }
        Ok(())
    }
}

/// The lock's number, which is the same in every process and version.
fn key(name: &str) -> i64 {
    let hash = Sha256::digest(format!("bellwether/{name}").as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(first)
}
