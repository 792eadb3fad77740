//! Nodes: created, listed and terminated.

mod history;
mod termination;

use std::collections::BTreeMap;

use host_domain::heartbeat::ProcessStatus;
use host_domain::ids::NodeId;
use host_domain::node::Node;
use host_domain::observation::Observation;
use host_domain::operation::Operation;
use host_domain::time::Millis;

use super::audit::audit;
use super::machines::Machines;
use super::node_making::{
    CreateNode, begin_node, complete_request, insert_begun, known_chain, making_of,
};
use super::records::Records;
use super::subscriptions::{open_ended, record_new};
use super::workflow_engine::WorkflowEngine;
use super::{OpError, Page, PageRequest, Principal};
use crate::catalogue::Chains;
use host_store::{Heartbeat, retried};

pub use history::HealthExplanation;
pub use host_store::{NodeEventEntry as NodeEventRow, NodeFilter};

/// A node with its last report.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeDetails {
    /// The node.
    pub node: Node,
    /// The newest observation of each name.
    pub latest: BTreeMap<String, Observation>,
    /// The newest heartbeat.
    pub last_heartbeat: Option<Millis>,
    /// Its processes at that heartbeat.
    pub processes: Vec<ProcessStatus>,
}

/// Use cases on nodes.
#[derive(Clone)]
pub struct Nodes {
    records: Records,
    chains: Chains,
    machines: Machines,
    engine: WorkflowEngine,
    has_key_backup: bool,
}

impl Nodes {
    pub(crate) fn new(
        records: Records,
        chains: Chains,
        machines: Machines,
        engine: WorkflowEngine,
        has_key_backup: bool,
    ) -> Self {
        Self {
            records,
            chains,
            machines,
            engine,
            has_key_backup,
        }
    }

    /// Creates a node's record and starts its provisioning; the operation shows the progress.
    pub async fn create(
        &self,
        who: &Principal,
        request: CreateNode,
    ) -> Result<(Node, Operation), OpError> {
        if let Some(made) = who.effect_on("node") {
            return self.made_before(made).await;
        }
        let catalogue = self.chains.catalogue();
        let chain = known_chain(&catalogue, &request.chain)?;
        let now = self.records.now();
        let new = complete_request(chain, request, None)?;
        self.machines.check(&new.placement.provider)?;
        let subscription = open_ended(&new, who, now);
        let (node, operation) = begin_node(new, Some(chain), subscription.id, now);
        let write = || async {
            let mut tx = self.records.db.begin().await?;
            tx.insert_subscription(&subscription).await?;
            insert_begun(&mut tx, &node, &operation, now).await?;
            let target = format!("node/{}", node.id);
            audit(&mut tx, who, "create_node", target, now).await?;
            record_new(&mut tx, &who.keyless(), &subscription, Some(node.id), now).await?;
            Ok::<(), OpError>(tx.commit().await?)
        };
        retried(write).await?;
        // The row is committed: the loop over open operations repeats a start that is lost here.
        self.engine.begin(&operation).await;
        Ok((node, operation))
    }

    /// A node that an earlier request under the same key created, with the operation that provisions it.
    async fn made_before(&self, id: NodeId) -> Result<(Node, Operation), OpError> {
        let node = self.existing(id).await?;
        let making = making_of(&self.records.db, id).await?;
        let operation = making.ok_or_else(|| OpError::not_found("operation of the node", id))?;
        if !operation.state.is_over() {
            self.engine.begin(&operation).await;
        }
        Ok((node, operation))
    }

    /// Nodes, oldest first.
    pub async fn list(
        &self,
        filter: &NodeFilter,
        page: &PageRequest,
    ) -> Result<Page<NodeDetails>, OpError> {
        let rows = self
            .records
            .db
            .list_nodes(filter, page.after()?, page.rows())
            .await?;
        let page = Page::cut(rows, page, |node| node.id.to_string());
        let ids: Vec<NodeId> = page.items.iter().map(|node| node.id).collect();
        let mut latest = self.records.db.latest_observations(&ids).await?;
        let mut heartbeats = self.records.db.heartbeats(&ids).await?;
        let items = page
            .items
            .into_iter()
            .map(|node| {
                let latest = latest.remove(&node.id).unwrap_or_default();
                let heartbeat = heartbeats.remove(&node.id);
                details(node, latest, heartbeat)
            })
            .collect::<Result<_, OpError>>()?;
        Ok(Page {
            items,
            next: page.next,
        })
    }

    async fn existing(&self, id: NodeId) -> Result<Node, OpError> {
        let node = self.records.db.node(id).await?;
        node.ok_or_else(|| OpError::not_found("node", id))
    }

    /// A node by its id or, among those that are not terminal, by its name.
    pub async fn find_details(&self, name_or_id: &str) -> Result<NodeDetails, OpError> {
        self.with_details(self.find(name_or_id).await?).await
    }

    /// The record of a node by its id or, among those that are not terminal, by its name.
    pub async fn find(&self, name_or_id: &str) -> Result<Node, OpError> {
        let node = match name_or_id.parse() {
            Ok(id) => self.records.db.node(id).await?,
            Err(_) => self.records.db.node_by_name(name_or_id).await?,
        };
        node.ok_or_else(|| OpError::not_found("node", name_or_id))
    }

    async fn with_details(&self, node: Node) -> Result<NodeDetails, OpError> {
        let latest = self.latest_of(node.id).await?;
        let heartbeat = self
            .records
            .db
            .heartbeats(&[node.id])
            .await?
            .remove(&node.id);
        details(node, latest, heartbeat)
    }

    async fn latest_of(&self, id: NodeId) -> Result<BTreeMap<String, Observation>, OpError> {
        Ok(self
            .records
            .db
            .latest_observations(&[id])
            .await?
            .remove(&id)
            .unwrap_or_default())
    }
}

/// A node with its last report. Nothing of a terminal node runs, and its agent does not tell so any more.
fn details(
    node: Node,
    latest: BTreeMap<String, Observation>,
    heartbeat: Option<Heartbeat>,
) -> Result<NodeDetails, OpError> {
    let processes = match &heartbeat {
        Some(row) if !node.condition.state.is_terminal() => {
            serde_json::from_str(&row.processes_json).map_err(OpError::internal)?
        }
        _ => Vec::new(),
    };
    Ok(NodeDetails {
        node,
        latest,
        last_heartbeat: heartbeat.map(|row| row.last_heartbeat),
        processes,
    })
}
