//! The workflow engine's own file, before the engine opens it.
//!
//! It belongs to duroxide, which has no way to say "nobody else is there": locks of a killed host would be waited for.

use std::path::Path;

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

/// Lifts the locks that a killed host left in a duroxide 0.1.32 file. Only for who holds the file alone.
pub(super) async fn lift_locks(path: &Path) -> Result<(), sqlx::Error> {
    const TABLES: &str = "SELECT count(*) FROM sqlite_master WHERE type = 'table'
                          AND name IN ('worker_queue', 'orchestrator_queue', 'instance_locks')";
    // The last two are how duroxide itself gives a message back.
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
