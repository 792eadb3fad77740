//! Migrations: embedded, numbered alike for both databases, applied in order and never changed once released.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection, SqlSafeStr};

use super::db::Db;
use super::error::StoreError;
use super::pools::Pools;

/// Version, name, text for SQLite, text for PostgreSQL.
const MIGRATIONS: &[(i64, &str, &str, &str)] = &[
    (
        1,
        "init",
        include_str!("../../../migrations/sqlite/0001_init.sql"),
        include_str!("../../../migrations/postgres/0001_init.sql"),
    ),
    (
        2,
        "node_keys",
        include_str!("../../../migrations/sqlite/0002_node_keys.sql"),
        include_str!("../../../migrations/postgres/0002_node_keys.sql"),
    ),
    (
        3,
        "node_migrations",
        include_str!("../../../migrations/sqlite/0003_node_migrations.sql"),
        include_str!("../../../migrations/postgres/0003_node_migrations.sql"),
    ),
    (
        4,
        "node_key_backups",
        include_str!("../../../migrations/sqlite/0004_node_key_backups.sql"),
        include_str!("../../../migrations/postgres/0004_node_key_backups.sql"),
    ),
    (
        5,
        "bus_outbox",
        include_str!("../../../migrations/sqlite/0005_bus_outbox.sql"),
        include_str!("../../../migrations/postgres/0005_bus_outbox.sql"),
    ),
    (
        6,
        "machine_claims",
        include_str!("../../../migrations/sqlite/0006_machine_claims.sql"),
        include_str!("../../../migrations/postgres/0006_machine_claims.sql"),
    ),
    (
        7,
        "dead_letters_return",
        include_str!("../../../migrations/sqlite/0007_dead_letters_return.sql"),
        include_str!("../../../migrations/postgres/0007_dead_letters_return.sql"),
    ),
    (
        8,
        "subscriptions",
        include_str!("../../../migrations/sqlite/0008_subscriptions.sql"),
        include_str!("../../../migrations/postgres/0008_subscriptions.sql"),
    ),
    (
        9,
        "plugin_kv",
        include_str!("../../../migrations/sqlite/0009_plugin_kv.sql"),
        include_str!("../../../migrations/postgres/0009_plugin_kv.sql"),
    ),
];

/// A step of the schema that the database does not have yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingMigration {
    /// Its place in the order.
    pub version: i64,
    /// What it is called: `init`.
    pub name: &'static str,
}

impl Db {
    /// Brings the schema to this program's version; does nothing when it is there already. Several processes may call it at
    /// once: one migrates, the others wait and find it done.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let migrator = self.migrator();
        match self.pools() {
            Pools::Sqlite { write, .. } => {
                // The driver has no lock for SQLite; the writer's turn is one, and all steps count together.
                let mut tx = write.begin_with("BEGIN IMMEDIATE").await?;
                migrator.run(&mut *tx).await.map_err(refused)?;
                Ok(tx.commit().await?)
            }
            Pools::Postgres(pool) => {
                // A step may take long, and who waits for the lock waits as long: no time limit of a role counts here.
                let connect = (*pool.connect_options()).clone();
                let patient = connect.options([("statement_timeout", "0"), ("lock_timeout", "0")]);
                let mut connection = sqlx::PgConnection::connect_with(&patient).await?;
                migrator.run(&mut connection).await.map_err(refused)?;
                Ok(connection.close().await?)
            }
        }
    }

    /// The schema's version; 0 when there is none yet.
    pub async fn schema_version(&self) -> Result<i64, StoreError> {
        const EXISTS_SQLITE: &str =
            "SELECT count(*) AS number FROM sqlite_master WHERE name = '_sqlx_migrations'";
        // Each database lists its tables in its own place.
        const EXISTS_POSTGRES: &str = "SELECT count(*) AS number FROM pg_tables WHERE tablename = '_sqlx_migrations' AND schemaname = current_schema()";
        const SQL: &str = "SELECT COALESCE(max(version), 0) AS number FROM _sqlx_migrations";
        let exists = match self.pools() {
            Pools::Sqlite { .. } => EXISTS_SQLITE,
            Pools::Postgres(_) => EXISTS_POSTGRES,
        };
        if self.number(super::sql::sql(exists)).await? == Some(0) {
            return Ok(0);
        }
        Ok(self.number(super::sql::sql(SQL)).await?.unwrap_or(0))
    }

    /// What [`Db::migrate`] would apply; a schema that is newer than this program is refused.
    pub async fn pending_migrations(&self) -> Result<Vec<PendingMigration>, StoreError> {
        let found = self.schema_version().await?;
        if found > newest() {
            return Err(newer(found));
        }
        let pending = MIGRATIONS.iter().filter(|(version, ..)| *version > found);
        Ok(pending
            .map(|&(version, name, ..)| PendingMigration { version, name })
            .collect())
    }

    /// Refuses a schema that this program does not know, with the command that mends it.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        let found = self.schema_version().await?;
        let wanted = newest();
        match found.cmp(&wanted) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(newer(found)),
            std::cmp::Ordering::Less => Err(StoreError::Schema(format!(
                "the database's schema is at version {found}, this program needs {wanted}; run `bellwether migrate` with the same settings, then start again"
            ))),
        }
    }

    fn migrator(&self) -> Migrator {
        let migration = |(version, name, sqlite, postgres): &(
            i64,
            &'static str,
            &'static str,
            &'static str,
        )| {
            let text = match self.pools() {
                Pools::Sqlite { .. } => *sqlite,
                Pools::Postgres(_) => *postgres,
            };
            Migration::new(
                *version,
                Cow::Borrowed(*name),
                MigrationType::Simple,
                text.into_sql_str(),
                false,
            )
        };
        Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect())
    }
}

fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, |(version, ..)| *version)
}

fn refused(error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(found) => newer(found),
        other => StoreError::Migrate(other),
    }
}

fn newer(found: i64) -> StoreError {
    StoreError::Schema(format!(
        "the database's schema is at version {found}, which is newer than this program; run a newer `bellwether`"
    ))
}
