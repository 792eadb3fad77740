//! Machines of which each has one node: which one a node gets from its provider, and whether there is one.
//!
//! The rows say what a node holds, providers what is there. A machine stays claimed until it was given back, so one that
//! could not be is never found free by another node meanwhile.

use host_domain::agent::Machine;
use host_domain::ids::{MachineId, NodeId, OperationId};
use host_domain::node::{Node, Placement};
use host_domain::time::Millis;

use super::OpError;
use super::agents::{MachineOf, ensure_machine};
use host_machines::MachineProvider;
use host_store::{Reader, Tx};

/// A machine that is a node's from here on.
pub(crate) struct Claimed {
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
) -> Result<Option<Claimed>, OpError> {
    // One that a failed node left behind may be broken: it is taken last. It is made clean before it is used.
    let mut left_behind = Vec::new();
    for candidate in provider.candidates(node, beside) {
        let machine = MachineOf {
            provider: &node.placement.provider,
            region: &node.placement.region,
            address: candidate.address.as_deref(),
        };
        let machine = ensure_machine(tx, &candidate.name, &machine, now).await?;
        let claimed = Claimed {
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
            // Somebody was faster.
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
pub(crate) async fn has_machine_for(
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
