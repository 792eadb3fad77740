//! The seam: two drivers behind one closed enum, and nothing of them above it (design: style.md, SQL for two databases).
//!
//! SQLite has one connection that writes, because concurrent writers lock each other out and async ones starve
//! (BEGIN IMMEDIATE queues them fairly at the pool), and a few that read beside it thanks to the WAL.
//! `synchronous = FULL`: an agent forgets a result and a client an answer once we have said "done", so a commit has to
//! survive a power cut; NORMAL would lose the newest ones. Batches keep the number of commits small.

use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Postgres, Sqlite, Transaction};
use tokio::sync::{Mutex, watch};

use super::error::StoreError;
use super::event_log::NewLogEntry;
use super::sql::{FromRow, Number, Row, Stmt};

/// Sizes and times of the database's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbOptions {
    /// Connections to PostgreSQL; readers of SQLite.
    pub connections_max: u32,
    /// How long a caller waits for a connection.
    pub acquire_timeout: Duration,
    /// How long a statement may run on PostgreSQL; how long SQLite waits for another process's lock.
    pub statement_timeout: Duration,
}

impl Default for DbOptions {
    fn default() -> Self {
        Self {
            connections_max: 8,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(10),
        }
    }
}

/// Expands `$body` once per place that statements run in; the connection fixes the types.
macro_rules! on {
    ($source:expr, |$c:ident| $body:expr) => {
        match $source {
            Source::Pools(Pools::Sqlite { read, .. }) => {
                let mut held = read.acquire().await?;
                let $c = &mut *held;
                $body
            }
            Source::Pools(Pools::Postgres(pool)) => {
                let mut held = pool.acquire().await?;
                let $c = &mut *held;
                $body
            }
            Source::SqliteTx(tx) => {
                let mut held = tx.lock().await;
                let $c = &mut **held;
                $body
            }
            Source::PostgresTx(tx) => {
                let mut held = tx.lock().await;
                let $c = &mut **held;
                $body
            }
        }
    };
}

/// The connections.
#[derive(Clone, Debug)]
pub(super) enum Pools {
    /// Readers, and the one writer.
    Sqlite { read: SqlitePool, write: SqlitePool },
    /// Any of them does both.
    Postgres(PgPool),
}

#[derive(Debug)]
enum Source {
    Pools(Pools),
    // Only one task uses a transaction; the lock gives reads `&self`, so that they are written once for `Db` and `Tx`.
    SqliteTx(Mutex<Transaction<'static, Sqlite>>),
    PostgresTx(Mutex<Transaction<'static, Postgres>>),
}

/// What can be read, from a [`Db`] or inside a [`Tx`].
#[derive(Debug)]
pub struct Reader {
    source: Source,
}

/// A database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    reader: Arc<Reader>,
    pools: Pools,
    changes: Arc<watch::Sender<u64>>,
    revocations: Arc<AtomicU64>,
}

/// A transaction. Dropping it undoes it.
#[derive(Debug)]
pub struct Tx {
    reader: Reader,
    changes: Arc<watch::Sender<u64>>,
    revocations: Arc<AtomicU64>,
    pub(super) log: Vec<NewLogEntry>,
    /// Agents that it cuts off.
    pub(super) revoked: u64,
}

impl Deref for Db {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Deref for Tx {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Db {
    /// Opens `sqlite://<path>` (made when absent) or `postgres://…`. It does not migrate.
    pub async fn open(url: &str, options: &DbOptions) -> Result<Self, StoreError> {
        let pools = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            open_postgres(url, options).await?
        } else if url.starts_with("sqlite:") && !url.contains(":memory:") {
            open_sqlite(url, options).await?
        } else {
            // Two pools would see two databases in memory.
            return Err(StoreError::Url(
                "it names neither a SQLite file nor PostgreSQL".to_owned(),
            ));
        };
        let reader = Reader {
            source: Source::Pools(pools.clone()),
        };
        Ok(Self {
            reader: Arc::new(reader),
            pools,
            changes: Arc::new(watch::Sender::new(0)),
            revocations: Arc::default(),
        })
    }

    /// Begins a transaction. On SQLite it waits for its turn as the writer, so keep it short and do nothing slow inside.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let source = match &self.pools {
            Pools::Sqlite { write, .. } => {
                Source::SqliteTx(Mutex::new(write.begin_with("BEGIN IMMEDIATE").await?))
            }
            Pools::Postgres(pool) => {
                Source::PostgresTx(Mutex::new(pool.begin_with("BEGIN").await?))
            }
        };
        Ok(Tx {
            reader: Reader { source },
            changes: Arc::clone(&self.changes),
            revocations: Arc::clone(&self.revocations),
            log: Vec::new(),
            revoked: 0,
        })
    }

    /// Changes with every commit of this process: what waits for rows looks again at once. Commits of other processes are
    /// not seen here, so every waiter also looks by itself from time to time.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How many agents this process has cut off since it opened the database: whoever remembers that an agent may speak
    /// asks for its row again when the number has changed. Other processes' are in [`Reader::revoked_agents`].
    pub fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::Acquire)
    }

    /// Ends every connection; SQLite tidies its statistics.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { read, write } => {
                read.close().await;
                write.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }

    /// Whether the database is SQLite, where this process is the only one.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.pools, Pools::Sqlite { .. })
    }

    pub(super) fn pools(&self) -> &Pools {
        &self.pools
    }
}

impl Tx {
    /// Writes the collected event log and makes everything count. What waits for [`Db::changes`] wakes.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.write_event_log().await?;
        match self.reader.source {
            Source::SqliteTx(tx) => tx.into_inner().commit().await?,
            Source::PostgresTx(tx) => tx.into_inner().commit().await?,
            Source::Pools(_) => {}
        }
        if self.revoked > 0 {
            self.revocations.fetch_add(self.revoked, Ordering::Release);
        }
        self.changes
            .send_modify(|commits| *commits = commits.wrapping_add(1));
        Ok(())
    }

    /// Undoes everything now; dropping does the same a moment later.
    pub async fn rollback(self) -> Result<(), StoreError> {
        match self.reader.source {
            Source::SqliteTx(tx) => tx.into_inner().rollback().await?,
            Source::PostgresTx(tx) => tx.into_inner().rollback().await?,
            Source::Pools(_) => {}
        }
        Ok(())
    }
}

impl Reader {
    /// Runs a statement and takes its rows; every caller bounds them.
    pub(super) async fn rows(&self, stmt: Stmt) -> Result<Vec<Row>, StoreError> {
        Ok(on!(&self.source, |c| {
            let rows = stmt.query().fetch_all(c).await?;
            rows.into_iter().map(Row::from).collect()
        }))
    }

    /// Runs a statement and counts the rows that it touched.
    pub(super) async fn execute(&self, stmt: Stmt) -> Result<u64, StoreError> {
        Ok(on!(&self.source, |c| stmt
            .query()
            .execute(c)
            .await?
            .rows_affected()))
    }

    pub(super) async fn all<T: FromRow>(&self, stmt: Stmt) -> Result<Vec<T>, StoreError> {
        self.rows(stmt).await?.iter().map(Row::read).collect()
    }

    pub(super) async fn first<T: FromRow>(&self, stmt: Stmt) -> Result<Option<T>, StoreError> {
        self.rows(stmt).await?.first().map(Row::read).transpose()
    }

    /// The column `number` of the first row.
    pub(super) async fn number(&self, stmt: Stmt) -> Result<Option<i64>, StoreError> {
        Ok(self
            .first::<Number>(stmt)
            .await?
            .map(|Number(number)| number))
    }
}

async fn open_sqlite(url: &str, options: &DbOptions) -> Result<Pools, StoreError> {
    let connect = SqliteConnectOptions::from_str(url)
        .map_err(|error| StoreError::Url(error.to_string()))?
        .create_if_missing(true)
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

async fn open_postgres(url: &str, options: &DbOptions) -> Result<Pools, StoreError> {
    let statement_ms = options.statement_timeout.as_millis().to_string();
    let connect = PgConnectOptions::from_str(url)
        .map_err(|error| StoreError::Url(error.to_string()))?
        .options([
            ("statement_timeout", statement_ms.as_str()),
            ("lock_timeout", "5000"),
            ("idle_in_transaction_session_timeout", "30000"),
        ]);
    let pool = PgPoolOptions::new()
        .max_connections(options.connections_max.max(1))
        .acquire_timeout(options.acquire_timeout)
        .connect_with(connect)
        .await?;
    Ok(Pools::Postgres(pool))
}

impl From<sqlx::sqlite::SqliteRow> for Row {
    fn from(row: sqlx::sqlite::SqliteRow) -> Self {
        Self::Sqlite(row)
    }
}

impl From<sqlx::postgres::PgRow> for Row {
    fn from(row: sqlx::postgres::PgRow) -> Self {
        Self::Postgres(row)
    }
}
