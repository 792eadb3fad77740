//! The errors of the store, grouped by what a caller does about them.

use host_domain::ids::NodeId;

/// Why a call of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A unique value is taken; the caller chooses another one.
    #[error("{what} exists already; choose another or use the one that exists")]
    Conflict {
        /// What exists.
        what: &'static str,
    },
    /// The row refers to a missing row.
    #[error("the row refers to a row that does not exist; read it again and retry")]
    Missing,
    /// The node's row changed since the caller read it, or is gone: the caller rolls back and reads again.
    #[error("node `{0}` changed in the meantime; read it again and retry")]
    Raced(NodeId),
    /// The database is unavailable or busy; nothing was written, and a retry may succeed.
    #[error("the database is busy or unavailable; retry in a few seconds")]
    Unavailable(#[source] sqlx::Error),
    /// The database rolled the transaction back because of another one; the caller may retry at once.
    #[error(
        "the database rolled the transaction back because of a conflict with another one; retry"
    )]
    Undone(#[source] sqlx::Error),
    /// A row has an invalid value.
    #[error(
        "row `{id}` of table `{table}` has an invalid `{column}` ({why}); restore the row from a backup"
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
    /// Another leader has taken over; the caller stops leading.
    #[error(
        "the database rejected a write of `{name}`: its epoch {epoch} is over, because another host leads now"
    )]
    Fenced {
        /// The name of the leadership.
        name: String,
        /// The caller's epoch.
        epoch: i64,
    },
    /// The address is invalid.
    #[error(
        "the database URL is invalid ({0}); write `sqlite://<path>` or `postgres://<user>@<host>/<database>`"
    )]
    Url(String),
    /// The schema is not the one that this program needs.
    #[error("{0}")]
    Schema(String),
    /// A schema migration failed; the schema stays at the previous version.
    #[error("the schema migration failed; fix the cause and run `bellwether migrate` again")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A bug or a corrupt database.
    #[error("the database rejected a statement")]
    Internal(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether a retry may succeed soon.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Undone(_))
    }

    /// Names the conflict, where the database only knows an index.
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

/// Conflicts with another transaction: SQLite's busy and locked, its extended result code in decimal; PostgreSQL's
/// serialisation failure, deadlock and lock timeout.
fn is_in_the_way(code: &str) -> bool {
    const SQLITE: [&str; 6] = ["5", "6", "261", "262", "517", "773"];
    const POSTGRES: [&str; 3] = ["40001", "40P01", "55P03"];
    SQLITE.contains(&code) || POSTGRES.contains(&code)
}

/// PostgreSQL's statement timeout and ended idle transaction, and its classes: insufficient resources, connection
/// lost, shutdown.
fn is_transient(code: &str) -> bool {
    const POSTGRES: [&str; 2] = ["57014", "25P03"];
    const CLASSES: [&str; 3] = ["53", "08", "57P"];
    POSTGRES.contains(&code)
        || (code.len() == 5 && CLASSES.iter().any(|class| code.starts_with(class)))
}
