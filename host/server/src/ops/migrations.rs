//! Moving nodes to other machines: asked for by a person or by the watch over nodes that are down, and by the same rules.

use std::collections::{BTreeMap, BTreeSet};

use host_domain::agent::Machine;
use host_domain::ids::NodeId;
use host_domain::migration::{Candidate, Held, NodeMigration, Region, RegionHealth, may_move};
use host_domain::node::{Node, NodeState};
use host_domain::operation::{Operation, OperationKind};
use host_domain::time::Millis;
use host_workflows::migrate_node;

use super::audit::audit;
use super::machines::has_machine_for;
use super::nodes::new_operation;
use super::operations::log_operation;
use super::{OpError, Principal};
use crate::app::App;
use host_store::{NodeFilter, Reader, Tx, retried};

/// Rows that are read at once.
const PAGE: u32 = 500;
/// Migrations that may be on their way; far above any sensible setting.
const OPEN_MAX: u32 = 1_000;
/// Nodes of a machine that are counted when a machine is chosen; one that has more is as full as any.
const COUNTED_MAX: u32 = 200;

impl App {
    /// Moves a node that is down to another machine. A person has looked, so it need not be down for long; `is_forced` also
    /// passes over the breaker and the cooldown.
    pub async fn migrate_node(
        &self,
        who: &Principal,
        id: NodeId,
        is_forced: bool,
    ) -> Result<Operation, OpError> {
        let operation = retried(|| self.migrate_node_once(who, id, is_forced)).await?;
        self.begin_workflow(&operation).await;
        Ok(operation)
    }

    async fn migrate_node_once(
        &self,
        who: &Principal,
        id: NodeId,
        is_forced: bool,
    ) -> Result<Operation, OpError> {
        let now = self.clock.now();
        // Before the transaction: it may be the whole fleet that is looked at.
        let regions = self.region_health(&self.db).await?;
        let mut tx = self.db.begin().await?;
        // Of two at once, the second finds what the first has begun.
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
            // How long it is down is for the watch to count.
            down_since: is_down(&node).then_some(Millis(0)),
            ..candidate(&tx, &node).await?
        };
        let n_open = open_count(&tx).await?;
        let region = health_of(&regions, &node);
        match may_move(&candidate, region, n_open, now, &self.config.migration) {
            Ok(()) => {}
            Err(Held::Breaker | Held::Cooldown) if is_forced => {
                if n_open >= self.config.migration.max_concurrent {
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
        if !self.can_take(&tx, &node, now).await? {
            return Err(OpError::Conflict(NO_TARGET.to_owned()));
        }
        let operation = self.begin_migration(&mut tx, &node, is_forced, now).await?;
        audit(&mut tx, who, "migrate_node", format!("node/{id}"), now).await?;
        tx.commit().await?;
        Ok(operation)
    }

    /// Writes down that a node is to be moved.
    pub(crate) async fn begin_migration(
        &self,
        tx: &mut Tx,
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
            self.migration_steps(node),
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
        &self,
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
                let is_away = is_moving && state == NodeState::Provisioning;
                health.down += u32::from(is_away || state == NodeState::Down);
            }
        }
    }

    fn migration_steps(&self, node: &Node) -> &'static [&'static str] {
        match self.providers.get(&node.placement.provider) {
            Ok(provider) if !provider.is_shared() => migrate_node::STEPS_WITH_MACHINE,
            _ => migrate_node::STEPS,
        }
    }

    /// Whether there is something that could take a node: another machine where several nodes share one, or else a machine that
    /// its provider has free or makes.
    pub(crate) async fn can_take(
        &self,
        reader: &Reader,
        node: &Node,
        now: Millis,
    ) -> Result<bool, OpError> {
        match self.providers.get(&node.placement.provider) {
            Ok(provider) if provider.is_shared() => {
                Ok(self.target_for(reader, node, now).await?.is_some())
            }
            Ok(provider) => has_machine_for(reader, provider, node, now).await,
            Err(_) => Ok(false),
        }
    }

    /// Whether a node's provider is set up here, so that there may be something that takes the node.
    pub(crate) fn is_movable(&self, node: &Node) -> bool {
        self.providers.get(&node.placement.provider).is_ok()
    }

    /// The machine that takes a node, where several share one: of the same provider and region as its own, with an agent that
    /// beats, and of those the one with the fewest nodes.
    pub(crate) async fn target_for(
        &self,
        reader: &Reader,
        node: &Node,
        now: Millis,
    ) -> Result<Option<Machine>, OpError> {
        let Some(source) = node.placement.machine_id else {
            return Ok(None);
        };
        let source = reader.machine(source).await?;
        let source = source.ok_or_else(|| OpError::not_found("machine of the node", node.id))?;
        let mut best: Option<(usize, Machine)> = None;
        let mut after = None;
        loop {
            let page = reader.list_machines(after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(best.map(|(_, machine)| machine));
            };
            after = Some(last.id);
            for machine in page {
                let is_alike =
                    machine.provider == source.provider && machine.region == source.region;
                if machine.id == source.id
                    || !is_alike
                    || !self.is_alive(reader, &machine, now).await?
                {
                    continue;
                }
                let filter = NodeFilter {
                    machine_id: Some(machine.id),
                    ..NodeFilter::default()
                };
                let n_nodes = reader.list_nodes(&filter, None, COUNTED_MAX).await?.len();
                if best.as_ref().is_none_or(|(fewest, _)| n_nodes < *fewest) {
                    best = Some((n_nodes, machine));
                }
            }
        }
    }

    async fn is_alive(
        &self,
        reader: &Reader,
        machine: &Machine,
        now: Millis,
    ) -> Result<bool, OpError> {
        let timeout = self.config.health.heartbeat.heartbeat_timeout;
        let agent = reader.agent_of_machine(machine.id).await?;
        let seen_at = agent.and_then(|agent| agent.last_seen_at);
        Ok(seen_at.is_some_and(|at| now.since(at) < timeout))
    }
}

/// What a person is told when nobody can take a node.
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
