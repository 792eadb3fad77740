//! Nodes. Their dimensions change only by compare-and-swap on `state_version`; descriptive fields change freely.

use std::collections::{BTreeMap, BTreeSet};

use host_domain::ids::{MachineId, NodeId, OperationId};
use host_domain::node::{
    ApplicationHealth, Condition, Node, NodeState, Placement, Reason, SyncStatus,
};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, json, sql};

/// A filter of nodes; absent fields match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFilter {
    /// Chain profile id.
    pub chain: Option<String>,
    /// Infrastructure state.
    pub state: Option<NodeState>,
    /// What users see (`Condition::display_state`).
    pub display_state: Option<String>,
    /// Exact name.
    pub name: Option<String>,
    /// The machine that they run on.
    pub machine_id: Option<MachineId>,
}

/// A node's new condition, if its row has not changed.
#[derive(Clone, Copy, Debug)]
pub struct NewCondition<'a> {
    /// The node.
    pub node_id: NodeId,
    /// The version of the row that the decision is based on.
    pub seen_version: i64,
    /// Its three dimensions.
    pub condition: Condition,
    /// Why.
    pub reasons: &'a [Reason],
    /// When.
    pub at: Millis,
}

/// The id of a node whose row was updated.
pub(super) struct UpdatedNode(NodeId);

impl FromRow for UpdatedNode {
    const TABLE: &'static str = "nodes";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        row.parsed("id").map(Self)
    }
}

/// Fails for a row that was not updated.
pub(super) fn all_written(
    asked: impl IntoIterator<Item = NodeId>,
    written: Vec<UpdatedNode>,
) -> Result<(), StoreError> {
    let written: BTreeSet<NodeId> = written.into_iter().map(|UpdatedNode(id)| id).collect();
    let missing = asked.into_iter().find(|id| !written.contains(id));
    missing.map_or(Ok(()), |id| Err(StoreError::Raced(id)))
}

impl FromRow for Node {
    const TABLE: &'static str = "nodes";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            id: row.parsed("id")?,
            subscription_id: row.parsed("subscription_id")?,
            name: row.text("name")?,
            chain_profile_id: row.text("chain_profile_id")?,
            node_type: row.text("node_type")?,
            condition: condition(row)?,
            reasons: row.json("reasons")?,
            placement: row.json("placement")?,
            ports: row.json("ports")?,
            binary_versions: row.json("binary_versions")?,
            inputs: row.json("inputs")?,
            operation_id: row.parsed_opt("operation_id")?,
            state_version: row.int("state_version")?,
            created_at: row.millis("created_at")?,
            updated_at: row.millis("updated_at")?,
        })
    }
}

/// The three dimensions, from any row that has their columns.
pub(super) fn condition(row: &Row) -> Result<Condition, BadColumn> {
    Ok(Condition {
        state: row.named("state", NodeState::parse)?,
        sync_status: row.named("sync_status", SyncStatus::parse)?,
        application_health: row.named("application_health", ApplicationHealth::parse)?,
    })
}

impl Reader {
    /// A node by its id.
    pub async fn node(&self, id: NodeId) -> Result<Option<Node>, StoreError> {
        const SQL: &str = "SELECT * FROM nodes WHERE id = $1";
        self.first(sql(SQL).bind(id)).await
    }

    /// Nodes by their ids, without unknown ones.
    pub async fn nodes(&self, ids: &[NodeId]) -> Result<BTreeMap<NodeId, Node>, StoreError> {
        const SQL: &str = "SELECT * FROM nodes WHERE id IN (VALUES {})";
        let ids = ids.iter().map(|id| vec![(*id).into()]).collect();
        let found: Vec<Node> = self.all_list(SQL, ids).await?;
        Ok(found.into_iter().map(|node| (node.id, node)).collect())
    }

    /// The newest node with a name: the live one if there is one.
    pub async fn node_by_name(&self, name: &str) -> Result<Option<Node>, StoreError> {
        const SQL: &str = "SELECT * FROM nodes WHERE name = $1
            ORDER BY CASE WHEN state IN ('terminated', 'failed') THEN 1 ELSE 0 END, id DESC LIMIT 1";
        self.first(sql(SQL).bind(name)).await
    }

    /// Nodes in the order of their creation, after `after`.
    pub async fn list_nodes(
        &self,
        filter: &NodeFilter,
        after: Option<NodeId>,
        limit: u32,
    ) -> Result<Vec<Node>, StoreError> {
        const SQL: &str = "SELECT * FROM nodes
            WHERE ($1 IS NULL OR chain_profile_id = $1) AND ($2 IS NULL OR state = $2)
              AND ($3 IS NULL OR display_state = $3) AND ($4 IS NULL OR name = $4)
              AND ($5 IS NULL OR machine_id = $5) AND ($6 IS NULL OR id > $6)
            ORDER BY id LIMIT $7";
        let stmt = sql(SQL)
            .bind(filter.chain.as_deref())
            .bind(filter.state.map(NodeState::as_str))
            .bind(filter.display_state.as_deref())
            .bind(filter.name.as_deref())
            .bind(filter.machine_id)
            .bind(after)
            .bind(limit);
        self.all(stmt).await
    }
}

impl Tx {
    /// Inserts a node and its health row. `Conflict` when a live node has its name.
    pub async fn insert_node(&mut self, node: &Node) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO nodes (id, subscription_id, name, chain_profile_id, node_type,
                state, sync_status, application_health, display_state, reasons, machine_id, placement, ports,
                binary_versions, inputs, operation_id, state_version, created_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)";
        let stmt = sql(SQL)
            .bind(node.id)
            .bind(node.subscription_id)
            .bind(&node.name)
            .bind(&node.chain_profile_id)
            .bind(&node.node_type)
            .bind(node.condition.state.as_str())
            .bind(node.condition.sync_status.as_str())
            .bind(node.condition.application_health.as_str())
            .bind(node.condition.display_state())
            .bind(json(&node.reasons))
            .bind(node.placement.machine_id)
            .bind(json(&node.placement))
            .bind(json(&node.ports))
            .bind(json(&node.binary_versions))
            .bind(json(&node.inputs))
            .bind(node.operation_id)
            .bind(node.state_version)
            .bind(node.created_at)
            .bind(node.updated_at);
        self.execute(stmt)
            .await
            .map_err(|error| error.taken("a live node of this name"))?;
        self.insert_health_state(node.id, node.created_at).await
    }

    /// Changes the conditions of nodes, each at most once; the new version of a row is the seen one plus one.
    /// [`StoreError::Raced`] names a node that changed first.
    pub async fn set_conditions(&mut self, new: &[NewCondition<'_>]) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE nodes SET state = new_row.column3, sync_status = new_row.column4,
                application_health = new_row.column5, display_state = new_row.column6,
                reasons = new_row.column7, updated_at = new_row.column8, state_version = state_version + 1
            FROM (VALUES {}) AS new_row
            WHERE nodes.id = new_row.column1 AND nodes.state_version = new_row.column2 RETURNING id";
        let row = |new: &NewCondition<'_>| {
            vec![
                new.node_id.into(),
                new.seen_version.into(),
                new.condition.state.as_str().into(),
                new.condition.sync_status.as_str().into(),
                new.condition.application_health.as_str().into(),
                new.condition.display_state().into(),
                json(new.reasons),
                new.at.into(),
            ]
        };
        let written = self.all_list(SQL, new.iter().map(row).collect()).await?;
        all_written(new.iter().map(|new| new.node_id), written)
    }

    /// Sets a node's placement; `false` when the node does not exist.
    pub async fn set_placement(
        &mut self,
        id: NodeId,
        placement: &Placement,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE nodes SET machine_id = $1, placement = $2 WHERE id = $3";
        let stmt = sql(SQL)
            .bind(placement.machine_id)
            .bind(json(placement))
            .bind(id);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Sets a node's ports; `false` when the node does not exist.
    pub async fn set_ports(
        &mut self,
        id: NodeId,
        ports: &BTreeMap<String, u16>,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE nodes SET ports = $1 WHERE id = $2";
        Ok(self.execute(sql(SQL).bind(json(ports)).bind(id)).await? == 1)
    }

    /// Locks a node until this transaction ends, so that later reads in it stay valid. `false` when the node does not
    /// exist.
    pub async fn hold_node(&mut self, id: NodeId) -> Result<bool, StoreError> {
        // In both databases an update locks the row; SQLite locks the whole file.
        const SQL: &str = "UPDATE nodes SET operation_id = operation_id WHERE id = $1";
        Ok(self.execute(sql(SQL).bind(id)).await? == 1)
    }

    /// Sets the operation that creates or removes a node; `false` when the node does not exist.
    pub async fn set_operation(
        &mut self,
        id: NodeId,
        operation: Option<OperationId>,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE nodes SET operation_id = $1 WHERE id = $2";
        Ok(self.execute(sql(SQL).bind(operation).bind(id)).await? == 1)
    }
}
