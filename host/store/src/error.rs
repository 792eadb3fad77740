//! What can go wrong in the store, split by what a caller does about it.

use host_domain::ids::NodeId;

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A unique value is taken; the caller asks for another one.
    #[error("{what} exists already; choose another or use the one that exists")]
    Conflict {
        /// What exists.
        what: &'static str,
    },
    /// The row refers to one that does not exist.
    #[error("the row refers to another one that does not exist; read again and repeat")]
    Missing,
    /// The row of this node has changed since the caller saw it, or is gone: undo the transaction and read again.
    #[error("node `{0}` changed in the meantime; read it again and repeat")]
    Raced(NodeId),
    /// The database is away or busy; nothing was written, and the same call may work later.
    #[error("the database is busy or away; try again in a few seconds")]
    Unavailable(#[source] sqlx::Error),
    /// Another transaction was in the way and the database undid this one; the same work can be done again at once.
    #[error("the database undid the transaction, because another one was in its way; try again")]
    Undone(#[source] sqlx::Error),
    /// A row can't be read.
    #[error(
        "row `{id}` of table `{table}` has a `{column}` that can't be read ({why}); restore the row from a backup"
    )]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key.
        id: String,
        /// What is wrong with the value.
        why: String,
    },
    /// Somebody else leads by now; the caller stops leading.
    #[error("`{name}` is led by a newer epoch than {epoch}; this write was refused")]
    Fenced {
        /// What is led.
        name: String,
        /// The caller's epoch.
        epoch: i64,
    },
    /// The address can't be used.
    #[error(
        "the database URL can't be used ({0}); write `sqlite://<path>` or `postgres://<user>@<host>/<database>`"
    )]
    Url(String),
    /// The schema is not the one that this program knows.
    #[error("{0}")]
    Schema(String),
    /// A migration failed; the schema stays at the version before it.
    #[error("the database could not be migrated; mend the cause and run `bellwether migrate`")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A bug or a broken database.
    #[error("the database refused a statement")]
    Internal(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether the same call may work in a moment.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Undone(_))
    }

    /// Names what is taken, where the database only knows an index.
    pub(super) fn taken(self, what: &'static str) -> Self {
        match self {
            Self::Conflict { .. } => Self::Conflict { what },
            other => other,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        use sqlx::error::ErrorKind as K;
        match &error {
            E::PoolTimedOut | E::PoolClosed | E::Io(_) | E::Tls(_) | E::WorkerCrashed => {
                Self::Unavailable(error)
            }
            E::Database(refusal) => match refusal.kind() {
                K::UniqueViolation => Self::Conflict { what: "the row" },
                K::ForeignKeyViolation => Self::Missing,
                _ if refusal.code().is_some_and(|code| is_in_the_way(&code)) => Self::Undone(error),
                _ if refusal.code().is_some_and(|code| is_transient(&code)) => {
                    Self::Unavailable(error)
                }
                _ => Self::Internal(error),
            },
            _ => Self::Internal(error),
        }
    }
}

/// Somebody else's transaction: SQLite's busy and locked, its extended result code in decimal; PostgreSQL's serialisation
/// failure, deadlock and lock time-out.
fn is_in_the_way(code: &str) -> bool {
    const SQLITE: [&str; 6] = ["5", "6", "261", "262", "517", "773"];
    const POSTGRES: [&str; 3] = ["40001", "40P01", "55P03"];
    SQLITE.contains(&code) || POSTGRES.contains(&code)
}

/// PostgreSQL's statement time-out and ended idle transaction, and its classes: too few resources, connection lost, shutdown.
fn is_transient(code: &str) -> bool {
    const POSTGRES: [&str; 2] = ["57014", "25P03"];
    const CLASSES: [&str; 3] = ["53", "08", "57P"];
    POSTGRES.contains(&code)
        || (code.len() == 5 && CLASSES.iter().any(|class| code.starts_with(class)))
}
