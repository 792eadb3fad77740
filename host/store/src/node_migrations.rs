//! Node migrations: changed by compare-and-swap, because a workflow and a person may write at once.

use host_domain::ids::{NodeId, OperationId};
use host_domain::migration::NodeMigration;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, sql};

impl FromRow for NodeMigration {
    const TABLE: &'static str = "node_migrations";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            operation_id: row.parsed("operation_id")?,
            node_id: row.parsed("node_id")?,
            source: row.parsed("source_machine_id")?,
            target: row.parsed_opt("target_machine_id")?,
            is_forced: row.flag("is_forced")?,
            triggered_at: row.millis("triggered_at")?,
            fenced: row.parsed_opt("fenced_machine_id")?,
            fenced_at: row.millis_opt("fenced_at")?,
            ended_at: row.millis_opt("ended_at")?,
            has_moved: row.flag("has_moved")?,
            version: row.int("version")?,
        })
    }
}

impl Reader {
    /// The node migration of an operation.
    pub async fn node_migration(
        &self,
        operation: OperationId,
    ) -> Result<Option<NodeMigration>, StoreError> {
        const SQL: &str = "SELECT * FROM node_migrations WHERE operation_id = $1";
        self.first(sql(SQL).bind(operation)).await
    }

    /// A node's last node migrations, newest first.
    pub async fn newest_node_migrations(
        &self,
        node: NodeId,
        limit: u32,
    ) -> Result<Vec<NodeMigration>, StoreError> {
        const SQL: &str = "SELECT * FROM node_migrations WHERE node_id = $1
            ORDER BY triggered_at DESC, operation_id DESC LIMIT $2";
        self.all(sql(SQL).bind(node).bind(limit)).await
    }

    /// Unfinished node migrations in the order of their requests.
    pub async fn open_node_migrations(&self, limit: u32) -> Result<Vec<NodeMigration>, StoreError> {
        const SQL: &str =
            "SELECT * FROM node_migrations WHERE ended_at IS NULL ORDER BY operation_id LIMIT $1";
        self.all(sql(SQL).bind(limit)).await
    }
}

impl Tx {
    /// Inserts a node migration. `Conflict` when its operation has one.
    pub async fn insert_node_migration(
        &mut self,
        migration: &NodeMigration,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO node_migrations (operation_id, node_id, source_machine_id,
                target_machine_id, is_forced, triggered_at, fenced_machine_id, fenced_at, ended_at, has_moved, version)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        let stmt = sql(SQL)
            .bind(migration.operation_id)
            .bind(migration.node_id)
            .bind(migration.source)
            .bind(migration.target)
            .bind(migration.is_forced)
            .bind(migration.triggered_at)
            .bind(migration.fenced)
            .bind(migration.fenced_at)
            .bind(migration.ended_at)
            .bind(migration.has_moved)
            .bind(migration.version);
        let inserted = self.execute(stmt).await;
        inserted.map_err(|error| error.taken("a migration of this operation"))?;
        Ok(())
    }

    /// Updates a node migration unless it changed since `migration.version`, and returns the new version.
    pub async fn update_node_migration(
        &mut self,
        migration: &NodeMigration,
    ) -> Result<Option<i64>, StoreError> {
        const SQL: &str =
            "UPDATE node_migrations SET target_machine_id = $1, fenced_machine_id = $2,
                fenced_at = $3, ended_at = $4, has_moved = $5, version = version + 1
            WHERE operation_id = $6 AND version = $7 RETURNING version AS number";
        let stmt = sql(SQL)
            .bind(migration.target)
            .bind(migration.fenced)
            .bind(migration.fenced_at)
            .bind(migration.ended_at)
            .bind(migration.has_moved)
            .bind(migration.operation_id)
            .bind(migration.version);
        self.number(stmt).await
    }
}
