//! Node migrations: requested by a person or by the loop over nodes that are down, and by the same rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use host_domain::ids::NodeId;
use host_domain::migration::{
    Candidate, Held, MigrationConfig, NodeMigration, Region, RegionHealth, fence_ends, may_move,
};
use host_domain::node::{Node, NodeState};
use host_domain::operation::{Operation, OperationKind};
use host_domain::time::Millis;
use host_workflows::migrate_node;
use host_workflows::node_activities::NodeRef;

use super::audit::audit;
use super::machines::Machines;
use super::node_making::new_operation;
use super::operations::log_operation;
use super::records::Records;
use super::workflow_engine::WorkflowEngine;
use super::{OpError, Principal};
use crate::config::ProvisioningConfig;
use host_store::{NodeFilter, Reader, Tx, retried};

/// Rows that are read at once.
const PAGE: u32 = 500;
/// Migrations that may be on their way; far above any sensible setting.
const OPEN_MAX: u32 = 1_000;

/// Starts node migrations. Cheap to clone.
#[derive(Clone)]
pub struct NodeMigrations {
    records: Records,
    machines: Machines,
    engine: WorkflowEngine,
    config: Arc<MigrationConfig>,
}

impl NodeMigrations {
    pub(crate) fn new(
        records: Records,
        machines: Machines,
        engine: WorkflowEngine,
        config: MigrationConfig,
    ) -> Self {
        Self {
            records,
            machines,
            engine,
            config: Arc::new(config),
        }
    }

    /// Moves a node that is down to another machine. A person has looked, so it need not be down for long; `is_forced` also
    /// passes over the breaker and the cooldown.
    pub async fn start(
        &self,
        who: &Principal,
        id: NodeId,
        is_forced: bool,
    ) -> Result<Operation, OpError> {
        let operation = retried(|| self.start_once(who, id, is_forced)).await?;
        self.engine.begin(&operation).await;
        Ok(operation)
    }

    async fn start_once(
        &self,
        who: &Principal,
        id: NodeId,
        is_forced: bool,
    ) -> Result<Operation, OpError> {
        let now = self.records.now();
        // Before the transaction: this may read the whole fleet.
        let regions = region_health(&self.records.db).await?;
        let mut tx = self.records.db.begin().await?;
        // Of two concurrent requests, the second finds what the first has started.
        tx.hold_node(id).await?;
        let node = tx.node(id).await?;
        let node = node.ok_or_else(|| OpError::not_found("node", id))?;
        if who.effect_on("node") == Some(id)
            && let Some(begun) = tx.newest_node_migrations(id, 1).await?.first()
        {
            let operation = tx.operation(begun.operation_id).await?;
            return operation.ok_or_else(|| OpError::not_found("operation", begun.operation_id));
        }
        if let Some(current) = open_operation(&tx, &node).await? {
            if current.kind == OperationKind::MigrateNode {
                return Ok(current);
            }
            return Err(OpError::Conflict(format!(
                "the node is being worked on by operation {}; wait for its end or cancel it",
                current.id
            )));
        }
        let candidate = Candidate {
            // Only the loop waits for the grace.
            down_since: is_down(&node).then_some(Millis(0)),
            ..candidate(&tx, &node).await?
        };
        let n_open = open_count(&tx).await?;
        let region = health_of(&regions, &node);
        match may_move(&candidate, region, n_open, now, &self.config) {
            Ok(()) => {}
            Err(Held::Breaker | Held::Cooldown) if is_forced => {
                if n_open >= self.config.max_concurrent {
                    return Err(OpError::Conflict(Held::Concurrency.to_string()));
                }
            }
            Err(held @ (Held::Breaker | Held::Cooldown)) => {
                return Err(OpError::Conflict(format!(
                    "{held}; `force` moves it all the same"
                )));
            }
            Err(held) => return Err(OpError::Conflict(held.to_string())),
        }
        if !self.machines.can_take(&tx, &node, now).await? {
            return Err(OpError::Conflict(NO_TARGET.to_owned()));
        }
        let operation = begin_migration(&mut tx, &self.machines, &node, is_forced, now).await?;
        audit(&mut tx, who, "migrate_node", format!("node/{id}"), now).await?;
        tx.commit().await?;
        Ok(operation)
    }
}

/// Adds the operation that migrates a node.
pub(crate) async fn begin_migration(
    tx: &mut Tx,
    machines: &Machines,
    node: &Node,
    is_forced: bool,
    now: Millis,
) -> Result<Operation, OpError> {
    let source = node.placement.machine_id.ok_or_else(|| {
        OpError::Conflict("the node is on no machine: there is nothing to move".to_owned())
    })?;
    let health = tx.health_state(node.id).await?;
    let version = health
        .ok_or_else(|| OpError::not_found("node", node.id))?
        .version;
    let operation = new_operation(
        node,
        OperationKind::MigrateNode,
        migrate_node::workflow_id(node.id, version),
        steps(machines, node),
        now,
    );
    tx.insert_operation(&operation).await?;
    tx.insert_node_migration(&NodeMigration {
        operation_id: operation.id,
        node_id: node.id,
        source,
        target: None,
        is_forced,
        triggered_at: now,
        fenced: None,
        fenced_at: None,
        ended_at: None,
        has_moved: false,
        version: 1,
    })
    .await?;
    tx.set_operation(node.id, Some(operation.id)).await?;
    log_operation(tx, &operation, now).await?;
    Ok(operation)
}

/// How many nodes of each region should run, and how many are down; those that are being moved are.
pub(crate) async fn region_health(
    reader: &Reader,
) -> Result<BTreeMap<Region, RegionHealth>, OpError> {
    let open = reader.open_node_migrations(OPEN_MAX).await?;
    let moving: BTreeSet<NodeId> = open.iter().map(|migration| migration.node_id).collect();
    let mut regions = BTreeMap::<Region, RegionHealth>::new();
    let mut after = None;
    loop {
        let page = reader
            .list_nodes(&NodeFilter::default(), after, PAGE)
            .await?;
        let Some(last) = page.last() else {
            return Ok(regions);
        };
        after = Some(last.id);
        for node in &page {
            let is_moving = moving.contains(&node.id);
            let state = node.condition.state;
            if !is_moving && !state.expects_beats() {
                continue;
            }
            let health = regions.entry(region_of(node)).or_default();
            health.nodes += 1;
            let is_in_transit = is_moving && state == NodeState::Provisioning;
            health.down += u32::from(is_in_transit || state == NodeState::Down);
        }
    }
}

fn steps(machines: &Machines, node: &Node) -> &'static [&'static str] {
    if machines.is_shared(&node.placement.provider) {
        migrate_node::STEPS
    } else {
        migrate_node::STEPS_WITH_MACHINE
    }
}

/// The input of the workflow that migrates a node.
pub(super) fn workflow_input(
    node: NodeRef,
    provisioning: &ProvisioningConfig,
    migration: &MigrationConfig,
) -> migrate_node::MigrateInput {
    let limits = migrate_node::MigrateLimits {
        agent: provisioning.agent_wait,
        // The workflow waits for the end of a lease, however long leases are.
        fence: fence_ends(Millis(0), migration).since(Millis(0)) * 2,
        install: provisioning.install,
        settle: migration.settle,
        settled: provisioning.first_healthy + migration.settle,
        ..migrate_node::MigrateLimits::default()
    };
    migrate_node::MigrateInput::new(node, limits)
}

/// What a person reads when no machine can take a node.
pub(crate) const NO_TARGET: &str = "nothing of its provider and region can take it: where nodes share machines, enrol another agent with `bellwether agent token`; where each has a machine of its own (provider `ssh`), declare another one or free one; the node is moved then";

/// What is known of a node that may have to move.
pub(crate) async fn candidate(reader: &Reader, node: &Node) -> Result<Candidate, OpError> {
    let newest = reader.newest_node_migrations(node.id, 1).await?;
    Ok(Candidate {
        node_id: node.id,
        region: region_of(node),
        down_since: is_down(node).then_some(node.updated_at),
        last_triggered_at: newest.first().map(|migration| migration.triggered_at),
    })
}

/// How many migrations have not ended.
pub(crate) async fn open_count(reader: &Reader) -> Result<u32, OpError> {
    let open = reader.open_node_migrations(OPEN_MAX).await?;
    Ok(u32::try_from(open.len()).unwrap_or(u32::MAX))
}

/// The operation that works on a node now.
pub(crate) async fn open_operation(
    reader: &Reader,
    node: &Node,
) -> Result<Option<Operation>, OpError> {
    let current = match node.operation_id {
        Some(id) => reader.operation(id).await?,
        None => None,
    };
    Ok(current.filter(|operation| !operation.state.is_over()))
}

/// How the region of a node does.
pub(crate) fn health_of(regions: &BTreeMap<Region, RegionHealth>, node: &Node) -> RegionHealth {
    regions.get(&region_of(node)).copied().unwrap_or_default()
}

fn region_of(node: &Node) -> Region {
    Region {
        provider: node.placement.provider.clone(),
        region: node.placement.region.clone(),
    }
}

fn is_down(node: &Node) -> bool {
    node.condition.state == NodeState::Down
}
