//! The connection pools of both databases.
//!
//! SQLite has one writing connection, because concurrent writers lock each other out and async ones starve (with
//! BEGIN IMMEDIATE the pool queues them fairly), and a few reading ones, which the WAL allows. `synchronous = FULL`:
//! agents and clients rely on an acknowledged result, so a commit must survive a power failure; NORMAL would lose the
//! newest commits. Batches keep the number of commits small.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::error::StoreError;

/// Sizes and time limits of the connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbOptions {
    /// Whether a missing SQLite file is created.
    pub create: bool,
    /// The maximum of connections to PostgreSQL, or of SQLite readers.
    pub connections_max: u32,
    /// How long a caller waits for a connection.
    pub acquire_timeout: Duration,
    /// How long a statement may run on PostgreSQL; how long SQLite waits for another process's lock.
    pub statement_timeout: Duration,
    /// How long a transaction on PostgreSQL may be idle before the server rolls it back: a frozen process must not
    /// keep its locks.
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

/// The pools of a database.
#[derive(Clone, Debug)]
pub(super) enum Pools {
    /// Readers, and the only writer.
    Sqlite { read: SqlitePool, write: SqlitePool },
    /// Every connection reads and writes.
    Postgres(PgPool),
}

impl Pools {
    /// Opens the database at an address.
    pub(super) async fn open(url: &str, options: &DbOptions) -> Result<Self, StoreError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let connect = PgConnectOptions::from_str(url)
                .map_err(|error| StoreError::Url(error.to_string()))?
                .application_name("bellwether");
            postgres(connect, options).await
        } else if url.starts_with("sqlite:") && !url.contains(":memory:") {
            sqlite(url, options).await
        } else {
            // Two pools would open two separate in-memory databases.
            Err(StoreError::Url(
                "the URL names neither a SQLite file nor PostgreSQL".to_owned(),
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

    /// Closes every connection.
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
    // The writer first: it creates the file and its WAL.
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
    // If an option occurs twice, the later one wins.
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
