//! Nodes: made, shown and removed.

mod history;
mod new_node;
mod removal;

use std::collections::BTreeMap;
use std::time::Duration;

use host_domain::config::ChainConfig;
use host_domain::ids::{NodeId, OperationId, SubscriptionId};
use host_domain::migration::fence_ends;
use host_domain::node::Node;
use host_domain::observation::Observation;
use host_domain::operation::{Operation, OperationKind, OperationState, OperationStep};
use host_domain::time::Millis;
use host_workflows::{migrate_node, node_activities::NodeRef, provision_node, terminate_node};
use uuid::Uuid;

use super::audit::audit;
use super::operations::log_operation;
use super::subscriptions::{open_ended, tell_of_new};
use super::{
    CreateNode, NodeDetails, NodeFilter, OpError, OperationFilter, PAGE_MAX, Page, PageRequest,
    Principal,
};
use crate::app::App;
use crate::catalogue::Catalogue;
use host_bus::Wake;
use host_store::{Heartbeat, Tx, retried};

use new_node::new_node;
pub(super) use new_node::{Wish, wish, with_node_type};
pub(super) use removal::backs_up_keys;
pub(crate) use removal::{Asked, Removal, begin_removal};

/// How long a request waits for the engine.
const BEGIN_MAX: Duration = Duration::from_secs(3);

impl App {
    /// Makes a node's record and starts its provisioning; the operation shows how it goes.
    pub async fn create_node(
        &self,
        who: &Principal,
        request: CreateNode,
    ) -> Result<(Node, Operation), OpError> {
        if let Some(made) = who.effect_on("node") {
            return self.made_before(made).await;
        }
        let catalogue = self.catalogue();
        let chain = known_chain(&catalogue, &request.chain)?;
        let now = self.clock.now();
        let wish = wish(chain, request, None)?;
        self.check_provider(&wish.placement.provider)?;
        let subscription = open_ended(&wish, who, now);
        let (node, operation) = begin_node(wish, Some(chain), subscription.id, now);
        let write = || async {
            let mut tx = self.db.begin().await?;
            tx.insert_subscription(&subscription).await?;
            insert_begun(&mut tx, &node, &operation, now).await?;
            let target = format!("node/{}", node.id);
            audit(&mut tx, who, "create_node", target, now).await?;
            tell_of_new(&mut tx, &who.keyless(), &subscription, Some(node.id), now).await?;
            Ok::<(), OpError>(tx.commit().await?)
        };
        retried(write).await?;
        // The row is the truth: a start that is lost here is made up for by the watch over workflows.
        self.begin_workflow(&operation).await;
        Ok((node, operation))
    }

    /// A node that an earlier request under the same key made, with the operation that makes it.
    async fn made_before(&self, id: NodeId) -> Result<(Node, Operation), OpError> {
        let node = self.node(id).await?.node;
        let making = self.making_of(id).await?;
        let operation = making.ok_or_else(|| OpError::not_found("operation of the node", id))?;
        if !operation.state.is_over() {
            self.begin_workflow(&operation).await;
        }
        Ok((node, operation))
    }

    /// The operation that makes a node, or has made it.
    pub(super) async fn making_of(&self, id: NodeId) -> Result<Option<Operation>, OpError> {
        let filter = OperationFilter {
            node: Some(id),
            state: None,
        };
        let operations = self.db.list_operations(&filter, None, PAGE_MAX).await?;
        let mut operations = operations.into_iter();
        Ok(operations.find(|operation| operation.kind == OperationKind::ProvisionNode))
    }

    /// Whether this host knows where machines of a provider come from.
    pub(super) fn check_provider(&self, provider: &str) -> Result<(), OpError> {
        let found = self.providers.get(provider).map(drop);
        found.map_err(|error| OpError::invalid("/provider", error.to_string()))
    }

    /// Nodes, oldest first.
    pub async fn list_nodes(
        &self,
        filter: &NodeFilter,
        page: &PageRequest,
    ) -> Result<Page<NodeDetails>, OpError> {
        let rows = self
            .db
            .list_nodes(filter, page.after()?, page.rows())
            .await?;
        let page = Page::cut(rows, page, |node| node.id.to_string());
        let ids: Vec<NodeId> = page.items.iter().map(|node| node.id).collect();
        let mut latest = self.db.latest_observations(&ids).await?;
        let mut heartbeats = self.db.heartbeats(&ids).await?;
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

    /// One node with what was last heard of it.
    pub async fn node(&self, id: NodeId) -> Result<NodeDetails, OpError> {
        self.with_details(self.existing_node(id).await?).await
    }

    async fn existing_node(&self, id: NodeId) -> Result<Node, OpError> {
        let node = self.db.node(id).await?;
        node.ok_or_else(|| OpError::not_found("node", id))
    }

    /// A node by its id or, among those that are not terminal, by its name.
    pub async fn find_node(&self, name_or_id: &str) -> Result<NodeDetails, OpError> {
        let node = match name_or_id.parse() {
            Ok(id) => self.db.node(id).await?,
            Err(_) => self.db.node_by_name(name_or_id).await?,
        };
        self.with_details(node.ok_or_else(|| OpError::not_found("node", name_or_id))?)
            .await
    }

    async fn with_details(&self, node: Node) -> Result<NodeDetails, OpError> {
        let latest = self.latest_of(node.id).await?;
        let heartbeat = self.db.heartbeats(&[node.id]).await?.remove(&node.id);
        details(node, latest, heartbeat)
    }

    async fn latest_of(&self, id: NodeId) -> Result<BTreeMap<String, Observation>, OpError> {
        Ok(self
            .db
            .latest_observations(&[id])
            .await?
            .remove(&id)
            .unwrap_or_default())
    }

    /// Starts the workflow of an operation that was just written down. That is accepted already: an engine that is away, or
    /// takes long, gets it by the round over open operations.
    pub(crate) async fn begin_workflow(&self, operation: &Operation) {
        match tokio::time::timeout(BEGIN_MAX, self.start_workflow(operation)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = anyhow::Error::from(error);
                tracing::warn!(operation.id = %operation.id, "the workflow is begun later: {error:#}");
            }
            Err(_) => {
                tracing::warn!(operation.id = %operation.id, "the workflow is begun later: the engine takes long");
            }
        }
    }

    /// Starts the workflow of an operation; the same workflow id is the same workflow.
    pub(crate) async fn start_workflow(&self, operation: &Operation) -> Result<(), OpError> {
        let node = NodeRef {
            node_id: operation.node_id,
            operation_id: operation.id,
        };
        let Some(engine) = self.engine() else {
            // The host that runs the workflows starts it; it finds the row by itself when the word is lost.
            let operation = operation.id;
            self.bus.wake(Wake::Operation { operation });
            return Ok(());
        };
        let started = match operation.kind {
            OperationKind::ProvisionNode => {
                let input = provision_node::ProvisionInput::new(node, self.provision_limits());
                let id = &operation.workflow_id;
                host_workflows::start::<provision_node::ProvisionNode>(engine, id, &input).await
            }
            OperationKind::TerminateNode => {
                let input = terminate_node::TerminateInput {
                    uninstall: self.config.provisioning.uninstall,
                    backup_keys: backs_up_keys(operation),
                    ..terminate_node::TerminateInput::new(node)
                };
                let id = &operation.workflow_id;
                host_workflows::start::<terminate_node::TerminateNode>(engine, id, &input).await
            }
            OperationKind::MigrateNode => {
                let input = migrate_node::MigrateInput::new(node, self.migrate_limits());
                let id = &operation.workflow_id;
                host_workflows::start::<migrate_node::MigrateNode>(engine, id, &input).await
            }
        };
        started.map(drop).map_err(|error| OpError::Unavailable {
            what: "the workflow engine",
            source: error.into(),
        })
    }

    fn migrate_limits(&self) -> migrate_node::MigrateLimits {
        let (making, moving) = (&self.config.provisioning, &self.config.migration);
        migrate_node::MigrateLimits {
            agent: making.agent_wait,
            // However long a lease is set to be, its end is waited for.
            fence: fence_ends(Millis(0), moving).since(Millis(0)) * 2,
            install: making.install,
            settle: moving.settle,
            settled: making.first_healthy + moving.settle,
            ..migrate_node::MigrateLimits::default()
        }
    }

    fn provision_limits(&self) -> provision_node::ProvisionLimits {
        let config = &self.config.provisioning;
        provision_node::ProvisionLimits {
            agent: config.agent_wait,
            install: config.install,
            healthy: config.first_healthy,
            uninstall: config.uninstall,
            ..provision_node::ProvisionLimits::default()
        }
    }
}

/// A node with what was last heard of it. Nothing of a terminal node runs, and its agent does not tell so any more.
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

/// A chain of the catalogue.
pub(super) fn known_chain<'a>(
    catalogue: &'a Catalogue,
    id: &str,
) -> Result<&'a ChainConfig, OpError> {
    catalogue.chains.chains.get(id).ok_or_else(|| {
        let known: Vec<_> = catalogue.chains.chains.keys().map(String::as_str).collect();
        OpError::invalid(
            "/chain",
            format!("is not a known chain; choose one of: {}", known.join(", ")),
        )
    })
}

/// A node that somebody wishes, and the operation that makes it.
pub(super) fn begin_node(
    wish: Wish,
    chain: Option<&ChainConfig>,
    subscription: SubscriptionId,
    now: Millis,
) -> (Node, Operation) {
    let node = new_node(wish, chain, subscription, now);
    let operation = new_operation(
        &node,
        OperationKind::ProvisionNode,
        provision_node::workflow_id(node.id),
        provision_node::STEPS,
        now,
    );
    let node = Node {
        operation_id: Some(operation.id),
        ..node
    };
    (node, operation)
}

/// Writes down that a node is made.
pub(super) async fn insert_begun(
    tx: &mut Tx,
    node: &Node,
    operation: &Operation,
    now: Millis,
) -> Result<(), OpError> {
    tx.insert_node(node)
        .await
        .map_err(|error| name_taken(error, &node.name))?;
    tx.insert_operation(operation).await?;
    log_operation(tx, operation, now).await
}

fn name_taken(error: host_store::StoreError, name: &str) -> OpError {
    match error {
        host_store::StoreError::Conflict { .. } => OpError::Conflict(format!(
            "a node named `{name}` exists already; choose another name or terminate that one"
        )),
        error => error.into(),
    }
}

pub(super) fn new_operation(
    node: &Node,
    kind: OperationKind,
    workflow_id: String,
    steps: &[&str],
    now: Millis,
) -> Operation {
    Operation {
        id: OperationId(Uuid::now_v7()),
        kind,
        node_id: node.id,
        workflow_id,
        state: OperationState::Running,
        steps: steps
            .iter()
            .map(|step| OperationStep::pending(step))
            .collect(),
        error: None,
        created_at: now,
        updated_at: now,
        version: 1,
    }
}
