//! Machines of which each has one node: which one a node gets from its provider, and whether there is one.
//!
//! The rows say what a node holds, providers what is there. A machine stays claimed until it was given back, so one that
//! could not be is never found free by another node meanwhile.

use std::sync::Arc;
use std::time::Duration;

use host_domain::agent::Machine;
use host_domain::ids::{MachineId, NodeId, OperationId};
use host_domain::migration_target::{MachineLoad, choose_target};
use host_domain::node::{Node, Placement};
use host_domain::time::Millis;

use super::OpError;
use super::agents::{MachineOf, ensure_machine};
use host_machines::{MachineProvider, MachineProviderError, MachineProviders};
use host_store::{Reader, Tx};

/// Rows that are read at once.
const PAGE: u32 = 500;

/// The machine providers of this host, and which machine can take a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Machines {
    providers: Arc<MachineProviders>,
    /// An agent that is silent for longer takes no node.
    heartbeat_timeout: Duration,
}

impl Machines {
    pub(crate) fn new(providers: MachineProviders, heartbeat_timeout: Duration) -> Self {
        Self {
            providers: Arc::new(providers),
            heartbeat_timeout,
        }
    }

    /// A provider by its name in the settings.
    pub(crate) fn get(&self, provider: &str) -> Result<&MachineProvider, MachineProviderError> {
        self.providers.get(provider)
    }

    /// Whether this host has a provider of that name.
    pub(crate) fn check(&self, provider: &str) -> Result<(), OpError> {
        let found = self.get(provider).map(drop);
        found.map_err(|error| OpError::invalid("/provider", error.to_string()))
    }

    /// Whether the nodes of a provider share a machine.
    pub(crate) fn is_shared(&self, provider: &str) -> bool {
        self.get(provider).map_or(true, MachineProvider::is_shared)
    }

    /// Whether there is something that could take a node: another machine where several nodes share one, or else a machine that
    /// its provider has free or makes.
    pub(crate) async fn can_take(
        &self,
        reader: &Reader,
        node: &Node,
        now: Millis,
    ) -> Result<bool, OpError> {
        match self.get(&node.placement.provider) {
            Ok(provider) if provider.is_shared() => {
                Ok(self.target_for(reader, node, now).await?.is_some())
            }
            Ok(provider) => has_machine_for(reader, provider, node, now).await,
            Err(_) => Ok(false),
        }
    }

    /// Whether a node's provider is set up here, so that there may be something that takes the node.
    pub(crate) fn is_movable(&self, node: &Node) -> bool {
        self.get(&node.placement.provider).is_ok()
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
        let (mut best, mut after) = (None, None);
        loop {
            let page = reader.machine_loads(&source, after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(best.map(|load: MachineLoad| load.machine));
            };
            after = Some(last.machine.id);
            best = choose_target(best.into_iter().chain(page), now, self.heartbeat_timeout);
        }
    }
}

/// A machine that is a node's from here on.
pub(crate) struct ClaimedMachine {
    /// Its row.
    pub(crate) machine: Machine,
    /// Where it is, when that is known before it is made.
    pub(crate) address: Option<String>,
}

/// Claims a machine for a node. Each claim is a row, so several hosts may claim at once. `beside` is the migration that wants
/// a further one: then none counts that the node has already.
pub(crate) async fn claim_machine(
    tx: &mut Tx,
    provider: &MachineProvider,
    node: &Node,
    beside: Option<OperationId>,
    now: Millis,
) -> Result<Option<ClaimedMachine>, OpError> {
    // One that a failed node left behind may be broken: it is taken last. It is made clean before it is used.
    let mut left_behind = Vec::new();
    for candidate in provider.candidates(node, beside) {
        let machine = MachineOf {
            provider: &node.placement.provider,
            region: &node.placement.region,
            address: candidate.address.as_deref(),
        };
        let machine = ensure_machine(tx, &candidate.name, &machine, now).await?;
        let claimed = ClaimedMachine {
            machine,
            address: candidate.address,
        };
        match tx.machine_claim(claimed.machine.id).await? {
            // What it leaves, or has left and is not clean yet.
            Some(claim) if claim.node_id == node.id && beside.is_some() => {}
            Some(claim) if claim.node_id != node.id => left_behind.push((claimed, claim.node_id)),
            _ if tx.claim_machine(claimed.machine.id, node.id, now).await? => {
                return Ok(Some(claimed));
            }
            // Another host was faster.
            _ => {}
        }
    }
    for (claimed, from) in left_behind {
        if tx.claim_machine(claimed.machine.id, node.id, now).await? {
            leave(tx, from, claimed.machine.id).await?;
            return Ok(Some(claimed));
        }
    }
    Ok(None)
}

/// Whether a node could get a further machine of its provider now. Nothing is claimed.
async fn has_machine_for(
    reader: &Reader,
    provider: &MachineProvider,
    node: &Node,
    now: Millis,
) -> Result<bool, OpError> {
    if provider.makes_machines() {
        return Ok(true);
    }
    for candidate in provider.candidates(node, None) {
        let Some(machine) = reader.machine_by_name(&candidate.name).await? else {
            return Ok(true);
        };
        let Some(claim) = reader.machine_claim(machine.id).await? else {
            return Ok(true);
        };
        let owner = reader.node(claim.node_id).await?;
        let is_left = owner.is_some_and(|owner| owner.condition.state.is_terminal());
        if is_left && claim.cleaning_until <= now {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A node that is no more has nothing to do with a machine that is another's, or nobody's, from here on.
pub(crate) async fn leave(tx: &mut Tx, node: NodeId, machine: MachineId) -> Result<(), OpError> {
    match tx.node(node).await? {
        Some(row) if row.placement.machine_id == Some(machine) => {
            let placement = Placement {
                machine_id: None,
                machine_ip: None,
                ..row.placement
            };
            tx.set_placement(node, &placement).await?;
            Ok(())
        }
        _ => Ok(()),
    }
}
