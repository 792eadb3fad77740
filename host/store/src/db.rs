//! Databases and transactions over two drivers, hidden behind one closed enum.
//!
//! A [`Db`] may be fenced: then each of its transactions first verifies that its leader still leads, so that the
//! leader's loops need no check of their own.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::{Postgres, Sqlite, Transaction};
use tokio::sync::{Mutex, watch};

use super::error::StoreError;
use super::event_log::NewLogEntry;
use super::leader_epochs::Fence;
use super::pools::{DbOptions, Pools};
use super::sql::{FromRow, Number, Row, Stmt, Value, sql};

/// Rows of one statement; with the columns of our tables this stays far below the maximum of values per statement.
const ROWS_MAX: usize = 1_000;

/// Expands `$body` once per driver; the connection determines the types.
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

#[derive(Debug)]
enum Source {
    Pools(Pools),
    // Only one task uses a transaction; the lock gives reads `&self`, so that `Db` and `Tx` share one implementation.
    SqliteTx(Mutex<Transaction<'static, Sqlite>>),
    PostgresTx(Mutex<Transaction<'static, Postgres>>),
}

/// Counts changes of the database that this process knows; each number only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Reasons to poll: commits of this process, and notifications of others.
    pub any: u64,
    /// Commits of this process that wrote to the event log. Other hosts are notified of these.
    pub logged: u64,
}

/// Reads from a [`Db`] or inside a [`Tx`].
#[derive(Debug)]
pub struct Reader {
    source: Source,
}

/// A database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    reader: Arc<Reader>,
    pools: Pools,
    changes: Arc<watch::Sender<Changes>>,
    revocations: Arc<AtomicU64>,
    fence: Option<Fence>,
}

/// A transaction. Dropping it rolls it back.
#[derive(Debug)]
pub struct Tx {
    reader: Reader,
    changes: Arc<watch::Sender<Changes>>,
    revocations: Arc<AtomicU64>,
    pub(super) log: Vec<NewLogEntry>,
    /// How many agents it revokes.
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
    /// Opens `sqlite://<path>` (created when missing, if the options allow it) or `postgres://…`, without a schema
    /// migration.
    pub async fn open(url: &str, options: &DbOptions) -> Result<Self, StoreError> {
        let changes = Arc::new(watch::Sender::new(Changes::default()));
        let revocations = Arc::default();
        Ok(Self::on(
            Pools::open(url, options).await?,
            changes,
            revocations,
        ))
    }

    fn on(pools: Pools, changes: Arc<watch::Sender<Changes>>, revocations: Arc<AtomicU64>) -> Self {
        let reader = Reader {
            source: Source::Pools(pools.clone()),
        };
        Self {
            reader: Arc::new(reader),
            pools,
            changes,
            revocations,
            fence: None,
        }
    }

    /// The same database through its own connections with other options. On SQLite they are shared, because only one
    /// connection writes.
    pub async fn with_options(&self, options: &DbOptions) -> Result<Self, StoreError> {
        let pools = self.pools.again(options).await?;
        let (changes, revocations) = (&self.changes, &self.revocations);
        Ok(Self::on(
            pools,
            Arc::clone(changes),
            Arc::clone(revocations),
        ))
    }

    /// The same database for a leader's work: each transaction fails with `Fenced` once another leader has taken
    /// over.
    #[must_use]
    pub fn fenced(&self, fence: Fence) -> Self {
        Self {
            fence: Some(fence),
            ..self.clone()
        }
    }

    /// Starts a transaction. On SQLite it waits for its turn as the only writer, so keep it short.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let source = match &self.pools {
            Pools::Sqlite { write, .. } => {
                Source::SqliteTx(Mutex::new(write.begin_with("BEGIN IMMEDIATE").await?))
            }
            Pools::Postgres(pool) => {
                Source::PostgresTx(Mutex::new(pool.begin_with("BEGIN").await?))
            }
        };
        let mut tx = Tx {
            reader: Reader { source },
            changes: Arc::clone(&self.changes),
            revocations: Arc::clone(&self.revocations),
            log: Vec::new(),
            revoked: 0,
        };
        if let Some(fence) = &self.fence {
            // Boxed: otherwise every caller would carry the future, although few databases are fenced.
            Box::pin(tx.check_leader_epoch(&fence.name, fence.epoch)).await?;
        }
        Ok(tx)
    }

    /// Changes with every commit of this process, and with [`Db::poll_now`]: whoever waits for rows polls then. A
    /// commit of another process may send no notification, so every waiter also polls regularly.
    pub fn changes(&self) -> watch::Receiver<Changes> {
        self.changes.subscribe()
    }

    /// Wakes whoever waits for [`Db::changes`], because another process has committed.
    pub fn poll_now(&self) {
        self.changes
            .send_modify(|changes| changes.any = changes.any.wrapping_add(1));
    }

    /// How many agents this process has revoked since it opened the database: a cache of agents reads their rows
    /// again when the number changes. [`Reader::revoked_agents`] includes other processes.
    pub fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::Acquire)
    }

    /// Closes every connection; SQLite updates its statistics.
    pub async fn close(&self) {
        self.pools.close().await;
    }

    pub(super) fn pools(&self) -> &Pools {
        &self.pools
    }
}

impl Tx {
    /// Writes the collected event log and commits. Wakes whoever waits for [`Db::changes`].
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let is_logged = !self.log.is_empty();
        self.write_event_log().await?;
        match self.reader.source {
            Source::SqliteTx(tx) => tx.into_inner().commit().await?,
            Source::PostgresTx(tx) => tx.into_inner().commit().await?,
            Source::Pools(_) => {}
        }
        if self.revoked > 0 {
            self.revocations.fetch_add(self.revoked, Ordering::Release);
        }
        self.changes.send_modify(|changes| {
            changes.any = changes.any.wrapping_add(1);
            changes.logged = changes.logged.wrapping_add(u64::from(is_logged));
        });
        Ok(())
    }

    /// Rolls back now; dropping does the same later.
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
    /// Whether the database is SQLite, which only this process uses.
    pub fn is_sqlite(&self) -> bool {
        matches!(
            self.source,
            Source::Pools(Pools::Sqlite { .. }) | Source::SqliteTx(_)
        )
    }

    /// Runs a statement and returns its rows; every caller bounds them.
    pub(super) async fn rows(&self, stmt: Stmt) -> Result<Vec<Row>, StoreError> {
        Ok(on!(&self.source, |c| {
            let rows = stmt.query().fetch_all(c).await?;
            rows.into_iter().map(Row::from).collect()
        }))
    }

    /// Runs a statement and counts the affected rows.
    pub(super) async fn execute(&self, stmt: Stmt) -> Result<u64, StoreError> {
        Ok(on!(&self.source, |c| stmt
            .query()
            .execute(c)
            .await?
            .rows_affected()))
    }

    /// Runs a statement with a list of rows, split by the maximum per statement, and counts the affected rows.
    pub(super) async fn execute_list(
        &self,
        text: &'static str,
        rows: Vec<Vec<Value>>,
    ) -> Result<u64, StoreError> {
        let mut n_touched = 0;
        for part in parts(rows) {
            n_touched += self.execute(sql(text).list(part)).await?;
        }
        Ok(n_touched)
    }

    /// Like [`Reader::execute_list`], but returns the rows that the statements return.
    pub(super) async fn all_list<T: FromRow>(
        &self,
        text: &'static str,
        rows: Vec<Vec<Value>>,
    ) -> Result<Vec<T>, StoreError> {
        let mut all = Vec::new();
        for part in parts(rows) {
            all.extend(self.all(sql(text).list(part)).await?);
        }
        Ok(all)
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

/// Splits rows by the maximum per statement.
fn parts(rows: Vec<Vec<Value>>) -> impl Iterator<Item = Vec<Vec<Value>>> {
    let mut rows = rows.into_iter();
    std::iter::from_fn(move || {
        let part: Vec<_> = rows.by_ref().take(ROWS_MAX).collect();
        (!part.is_empty()).then_some(part)
    })
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
