//! The connections to either database.
//!
//! SQLite has one connection that writes, because concurrent writers lock each other out and async ones starve
//! (BEGIN IMMEDIATE queues them fairly at the pool), and a few that read beside it thanks to the WAL.
//! `synchronous = FULL`: an agent forgets a result and a client an answer once we have said "done", so a commit has to
//! survive a power cut; NORMAL would lose the newest ones. Batches keep the number of commits small.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::error::StoreError;

/// Sizes and times of the database's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbOptions {
    /// Whether a SQLite file is made when it is absent.
    pub create: bool,
    /// Connections to PostgreSQL; readers of SQLite.
    pub connections_max: u32,
    /// How long a caller waits for a connection.
    pub acquire_timeout: Duration,
    /// How long a statement may run on PostgreSQL; how long SQLite waits for another process's lock.
    pub statement_timeout: Duration,
    /// How long a transaction may do nothing on PostgreSQL before the server undoes it: a frozen process must not keep its
    /// locks.
    pub idle_in_transaction: Duration,
}

impl Default for DbOptions {
    fn default() -> Self {
        Self {
            create: true,
            connections_max: 8,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(10),
            idle_in_transaction: Duration::from_secs(30),
        }
    }
}

/// The connections.
#[derive(Clone, Debug)]
pub(super) enum Pools {
    /// Readers, and the one writer.
    Sqlite { read: SqlitePool, write: SqlitePool },
    /// Any of them does both.
    Postgres(PgPool),
}

impl Pools {
    /// Opens the database of an address.
    pub(super) async fn open(url: &str, options: &DbOptions) -> Result<Self, StoreError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let connect = PgConnectOptions::from_str(url)
                .map_err(|error| StoreError::Url(error.to_string()))?
                .application_name("bellwether");
            postgres(connect, options).await
        } else if url.starts_with("sqlite:") && !url.contains(":memory:") {
            sqlite(url, options).await
        } else {
            // Two pools would see two databases in memory.
            Err(StoreError::Url(
                "it names neither a SQLite file nor PostgreSQL".to_owned(),
            ))
        }
    }

    /// Opens the same database again; SQLite's connections are shared.
    pub(super) async fn again(&self, options: &DbOptions) -> Result<Self, StoreError> {
        match self {
            Self::Sqlite { .. } => Ok(self.clone()),
            Self::Postgres(pool) => postgres((*pool.connect_options()).clone(), options).await,
        }
    }

    /// Ends every connection.
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite { read, write } => {
                read.close().await;
                write.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

async fn sqlite(url: &str, options: &DbOptions) -> Result<Pools, StoreError> {
    let connect = SqliteConnectOptions::from_str(url)
        .map_err(|error| StoreError::Url(error.to_string()))?
        .create_if_missing(options.create)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(options.statement_timeout)
        .optimize_on_close(true, 400);
    let pool = |connections| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(options.acquire_timeout)
    };
    // The writer first: it makes the file and its WAL.
    let write = pool(1).connect_with(connect.clone()).await?;
    let read = connect
        .optimize_on_close(false, None)
        .pragma("query_only", "ON");
    let read = pool(options.connections_max.max(1))
        .connect_with(read)
        .await?;
    Ok(Pools::Sqlite { read, write })
}

async fn postgres(connect: PgConnectOptions, options: &DbOptions) -> Result<Pools, StoreError> {
    let ms = |time: Duration| time.as_millis().to_string();
    // Of a setting that is given twice, the later one counts.
    let connect = connect.options([
        ("statement_timeout", ms(options.statement_timeout)),
        ("lock_timeout", "5000".to_owned()),
        (
            "idle_in_transaction_session_timeout",
            ms(options.idle_in_transaction),
        ),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(options.connections_max.max(1))
        .acquire_timeout(options.acquire_timeout)
        .connect_with(connect)
        .await?;
    Ok(Pools::Postgres(pool))
}
