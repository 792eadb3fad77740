//! Operations: changed by compare-and-swap, because the workflow and a cancel may write at once.

use host_domain::ids::{NodeId, OperationId};
use host_domain::operation::{Operation, OperationKind, OperationState};

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, json, sql};

/// A filter of operations; absent fields match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationFilter {
    /// Of one node.
    pub node: Option<NodeId>,
    /// In one state.
    pub state: Option<OperationState>,
}

impl FromRow for Operation {
    const TABLE: &'static str = "operations";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            id: row.parsed("id")?,
            kind: row.named("kind", OperationKind::parse)?,
            node_id: row.parsed("node_id")?,
            workflow_id: row.text("workflow_id")?,
            state: row.named("state", OperationState::parse)?,
            steps: row.json("steps")?,
            error: row.text_opt("error")?,
            created_at: row.millis("created_at")?,
            updated_at: row.millis("updated_at")?,
            version: row.int("version")?,
        })
    }
}

impl Reader {
    /// An operation by its id.
    pub async fn operation(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        const SQL: &str = "SELECT * FROM operations WHERE id = $1";
        self.first(sql(SQL).bind(id)).await
    }

    /// Operations, newest first, before `before`.
    pub async fn list_operations(
        &self,
        filter: &OperationFilter,
        before: Option<OperationId>,
        limit: u32,
    ) -> Result<Vec<Operation>, StoreError> {
        const SQL: &str = "SELECT * FROM operations
            WHERE ($1 IS NULL OR node_id = $1) AND ($2 IS NULL OR state = $2) AND ($3 IS NULL OR id < $3)
            ORDER BY id DESC LIMIT $4";
        let state = filter.state.map(OperationState::as_str);
        self.all(
            sql(SQL)
                .bind(filter.node)
                .bind(state)
                .bind(before)
                .bind(limit),
        )
        .await
    }

    /// The newest operation of a workflow.
    pub async fn operation_of_workflow(
        &self,
        workflow_id: &str,
    ) -> Result<Option<Operation>, StoreError> {
        const SQL: &str =
            "SELECT * FROM operations WHERE workflow_id = $1 ORDER BY id DESC LIMIT 1";
        self.first(sql(SQL).bind(workflow_id)).await
    }

    /// A node's unfinished operations, oldest first.
    pub async fn open_operations(
        &self,
        node: NodeId,
        limit: u32,
    ) -> Result<Vec<Operation>, StoreError> {
        const SQL: &str =
            "SELECT * FROM operations WHERE node_id = $1 AND state IN ('running', 'undoing')
            ORDER BY id LIMIT $2";
        self.all(sql(SQL).bind(node).bind(limit)).await
    }
}

impl Tx {
    /// Inserts an operation. `Conflict` when its id exists.
    pub async fn insert_operation(&mut self, operation: &Operation) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO operations (id, kind, node_id, workflow_id, state, steps, error,
                created_at, updated_at, version)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let stmt = sql(SQL)
            .bind(operation.id)
            .bind(operation.kind.as_str())
            .bind(operation.node_id)
            .bind(&operation.workflow_id)
            .bind(operation.state.as_str())
            .bind(json(&operation.steps))
            .bind(operation.error.as_deref())
            .bind(operation.created_at)
            .bind(operation.updated_at)
            .bind(operation.version);
        self.execute(stmt)
            .await
            .map_err(|error| error.taken("an operation of this id"))?;
        Ok(())
    }

    /// Updates state, steps and error of an operation unless it changed since `operation.version`, and returns the
    /// new version.
    pub async fn update_operation(
        &mut self,
        operation: &Operation,
    ) -> Result<Option<i64>, StoreError> {
        const SQL: &str =
            "UPDATE operations SET state = $1, steps = $2, error = $3, updated_at = $4,
                version = version + 1
            WHERE id = $5 AND version = $6 RETURNING version AS number";
        let stmt = sql(SQL)
            .bind(operation.state.as_str())
            .bind(json(&operation.steps))
            .bind(operation.error.as_deref())
            .bind(operation.updated_at)
            .bind(operation.id)
            .bind(operation.version);
        self.number(stmt).await
    }
}
