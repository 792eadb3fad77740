//! Schema migrations: embedded, with the same numbers for both databases, applied in order.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection, SqlSafeStr};

use super::db::Db;
use super::error::StoreError;
use super::pools::Pools;

/// Version, name, text for SQLite, text for PostgreSQL.
const MIGRATIONS: &[(i64, &str, &str, &str)] = &[(
    1,
    "init",
    include_str!("../../../migrations/sqlite/0001_init.sql"),
    include_str!("../../../migrations/postgres/0001_init.sql"),
)];

/// A schema migration that the database has not applied yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingMigration {
    /// Its number.
    pub version: i64,
    /// Its name, such as `init`.
    pub name: &'static str,
}

impl Db {
    /// Applies all pending schema migrations. Several processes may call it at once: one migrates while the others
    /// wait.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let migrator = self.migrator();
        match self.pools() {
            Pools::Sqlite { write, .. } => {
                // The driver has no lock for SQLite; the write transaction serves as one, and all migrations commit together.
                let mut tx = write.begin_with("BEGIN IMMEDIATE").await?;
                migrator.run(&mut *tx).await.map_err(refused)?;
                Ok(tx.commit().await?)
            }
            Pools::Postgres(pool) => {
                // A migration may take long, and other processes wait for the lock as long, so no role's time limit
                // applies here.
                let connect = (*pool.connect_options()).clone();
                let patient = connect.options([("statement_timeout", "0"), ("lock_timeout", "0")]);
                let mut connection = sqlx::PgConnection::connect_with(&patient).await?;
                migrator.run(&mut connection).await.map_err(refused)?;
                Ok(connection.close().await?)
            }
        }
    }

    /// The schema's version; 0 for an empty database.
    pub async fn schema_version(&self) -> Result<i64, StoreError> {
        const EXISTS_SQLITE: &str =
            "SELECT count(*) AS number FROM sqlite_master WHERE name = '_sqlx_migrations'";
        // Each database lists its tables in a different place.
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

    /// The schema migrations that [`Db::migrate`] would apply; fails when the schema is newer than this program.
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

    /// Fails when this program does not support the schema, with the command that fixes it.
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
