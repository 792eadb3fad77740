//! Prepares duroxide's SQLite file before duroxide opens it.
//!
//! Duroxide can't know that it is the only process, so it would wait for the locks of a killed host to expire.

use std::path::Path;

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

/// Releases the locks that a killed host left in a file of duroxide 0.1.32. Only the holder of the file's lock may
/// call this.
pub(super) async fn lift_locks(path: &Path) -> Result<(), sqlx::Error> {
    const TABLES: &str = "SELECT count(*) FROM sqlite_master WHERE type = 'table'
                          AND name IN ('worker_queue', 'orchestrator_queue', 'instance_locks')";
    // Duroxide itself releases a message with the last two statements.
    const LIFT: [&str; 3] = [
        "DELETE FROM instance_locks",
        "UPDATE worker_queue SET lock_token = NULL, locked_until = NULL WHERE lock_token IS NOT NULL",
        "UPDATE orchestrator_queue SET lock_token = NULL, locked_until = NULL WHERE lock_token IS NOT NULL",
    ];
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let n_tables: i64 = sqlx::query_scalar(TABLES)
        .fetch_one(&mut connection)
        .await?;
    if n_tables == 3 {
        for statement in LIFT {
            sqlx::query(statement).execute(&mut connection).await?;
        }
    }
    connection.close().await
}
