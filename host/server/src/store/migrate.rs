//! Migrations: embedded, numbered alike for both databases, applied in order and never changed once released.

use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

use super::db::{Db, Pools};
use super::error::StoreError;

/// Version, name, text for SQLite, text for PostgreSQL.
const MIGRATIONS: &[(i64, &str, &str, &str)] = &[(
    1,
    "init",
    include_str!("../../../../migrations/sqlite/0001_init.sql"),
    include_str!("../../../../migrations/postgres/0001_init.sql"),
)];

impl Db {
    /// Brings the schema to this program's version; does nothing when it is there already. Safe to run from several processes.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let migrator = self.migrator();
        match self.pools() {
            Pools::Sqlite { write, .. } => migrator.run(write).await,
            Pools::Postgres(pool) => migrator.run(pool).await,
        }
        .map_err(|error| match error {
            sqlx::migrate::MigrateError::VersionMissing(found) => newer(found),
            other => StoreError::Migrate(other),
        })
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

    /// Versions that [`Db::migrate`] would apply, for a dry run.
    pub async fn pending_migrations(&self) -> Result<Vec<i64>, StoreError> {
        let found = self.schema_version().await?;
        Ok(MIGRATIONS
            .iter()
            .map(|(version, ..)| *version)
            .filter(|version| *version > found)
            .collect())
    }

    /// Refuses a schema that this program does not know, with the command that mends it.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        let found = self.schema_version().await?;
        let wanted = MIGRATIONS.last().map_or(0, |(version, ..)| *version);
        match found.cmp(&wanted) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(newer(found)),
            std::cmp::Ordering::Less => Err(StoreError::Schema(format!(
                "the database's schema is at version {found}, this program needs {wanted}; run `bellwether migrate`"
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

fn newer(found: i64) -> StoreError {
    StoreError::Schema(format!(
        "the database's schema is at version {found}, which is newer than this program; run a newer `bellwether`"
    ))
}
