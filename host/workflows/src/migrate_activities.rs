//! The activities of migrating alone. The rules of [`crate::node_activities`] hold here too.

use std::time::Duration;

use host_domain::ids::MachineId;
use host_domain::time::{Millis, duration_text};
use serde::{Deserialize, Serialize};

use crate::activity::Activity;
use crate::node_activities::{FailedNode, MachineRef, NodeRef, Ready, activity};
use crate::retry::Retry;

activity! {
    /// Checks breaker, cooldown and concurrency once more, now that it is this migration's turn.
    CheckMigration = "check_migration": NodeRef => (), Retry::STORE
}

activity! {
    /// Moves the node from `down` to `provisioning`: nobody judges it until it runs again.
    MarkMigrating = "mark_migrating": NodeRef => (), Retry::STORE
}

activity! {
    /// Chooses the machine that takes the node, the same one at every call. A machine of the node's own is claimed, and nothing
    /// of it is touched or paid for yet.
    ClaimTarget = "claim_target": NodeRef => Target, Retry::STORE
}

/// What takes a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// From where to where.
    #[serde(flatten)]
    pub route: Route,
    /// Whether it is a machine of the node's own, which has to be made.
    pub is_own: bool,
}

/// From where to where a node moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The machine that it leaves.
    pub source: MachineId,
    /// The machine that takes it.
    pub target: MachineId,
    /// Whether it holds keys, so that two processes must never run at once.
    pub holds_keys: bool,
}

/// A node on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// The node and the operation.
    #[serde(flatten)]
    pub node: NodeRef,
    /// From where to where.
    #[serde(flatten)]
    pub route: Route,
}

impl Moving {
    /// The machine that takes the node.
    pub fn target(&self) -> MachineRef {
        MachineRef {
            node: self.node,
            machine_id: self.route.target,
        }
    }
}

activity! {
    /// Releases the chosen machine; done already when none was chosen. The agent of a machine of the node's own is cut off, and
    /// the machine is given back to its provider.
    DestroyTarget = "destroy_target": NodeRef => (), Retry::PROVIDER
}

activity! {
    /// Takes the node away from its machine: no lease of its processes is prolonged from now on, and no key is given out.
    FenceSource = "fence_source": Moving => Fenced, Retry::STORE
}

/// A fence that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fenced {
    /// From when on. Commands carry it in their names: what was done before an earlier fence proves nothing.
    pub at: Millis,
}

activity! {
    /// Takes the node away from the machine that was to have it, as [`FenceSource`] does from the other.
    FenceTarget = "fence_target": Moving => Fenced, Retry::UNDO
}

activity! {
    /// Says whether the last lease of the machine that the node was taken away from is surely over.
    CheckFence = "check_fence": Moving => Ready, Retry::STORE
}

activity! {
    /// Gives the node to the machine that takes it. Only after the old process is stopped, or its lease over.
    PlaceOnTarget = "place_on_target": Moving => (), Retry::STORE
}

activity! {
    /// Gives the node back to its old machine, which may run its processes again.
    RestoreSource = "restore_source": Moving => (), Retry::UNDO
}

activity! {
    /// Says whether the node is healthy, and has been for as long as asked.
    CheckSettled = "check_settled": SettledQuery => Ready, Retry::STORE
}

/// A node, and how long it has to be healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledQuery {
    /// The node and the operation.
    #[serde(flatten)]
    pub node: NodeRef,
    /// For how long.
    #[serde(with = "duration_text")]
    pub settle: Duration,
}

activity! {
    /// The end: the operation succeeded, and the old machine removes what it has of the node as soon as it can be reached. A
    /// machine that was the node's own is cut off, and given back to its provider as soon as that can be done.
    ReleaseSource = "release_source": Moving => (), Retry::STORE
}

activity! {
    /// Says whether [`ReleaseSource`] was done.
    CheckConcluded = "check_concluded": NodeRef => Ready, Retry::UNDO
}

activity! {
    /// The end of a migration that failed: the node is `down`, the operation says why, an incident tells of it.
    MarkMigrationFailed = "mark_migration_failed": FailedNode => (), Retry::UNDO
}
