//! Declares the activities that only node migrations use, under the rules of [`crate::node_activities`].

use std::time::Duration;

use host_domain::ids::MachineId;
use host_domain::time::{Millis, duration_text};
use serde::{Deserialize, Serialize};

use crate::activity::Activity;
use crate::node_activities::{FailedNode, MachineRef, NodeRef, Ready, activity};
use crate::retry::Retry;

activity! {
    /// Checks the breaker, the cooldown and the concurrency limit again when the migration's turn comes.
    CheckMigration = "check_migration": NodeRef => (), Retry::STORE
}

activity! {
    /// Moves the node from `down` to `provisioning`, so that nobody judges it until it runs again.
    MarkMigrating = "mark_migrating": NodeRef => (), Retry::STORE
}

activity! {
    /// Chooses the target machine, the same one at every call. Claims a machine of the node's own without touching or
    /// paying for it.
    ClaimTarget = "claim_target": NodeRef => Target, Retry::STORE
}

/// The target of a node migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The source and the target.
    #[serde(flatten)]
    pub route: Route,
    /// Whether the target is a machine of the node's own, which must be created.
    pub is_own: bool,
}

/// The source and the target of a node migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The source machine.
    pub source: MachineId,
    /// The target machine.
    pub target: MachineId,
    /// Whether the node has keys, so that two processes must never run at once.
    pub holds_keys: bool,
}

/// A node during its migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// The node and the operation.
    #[serde(flatten)]
    pub node: NodeRef,
    /// The source and the target.
    #[serde(flatten)]
    pub route: Route,
}

impl Moving {
    /// The target machine.
    pub fn target(&self) -> MachineRef {
        MachineRef {
            node: self.node,
            machine_id: self.route.target,
        }
    }
}

activity! {
    /// Releases the target machine; does nothing when none was chosen. For a machine of the node's own, it also
    /// revokes the agent and releases the machine to its provider.
    DestroyTarget = "destroy_target": NodeRef => (), Retry::PROVIDER
}

activity! {
    /// Removes the node from its source machine: from now on no lease of its processes is renewed, and no key is
    /// handed out.
    FenceSource = "fence_source": Moving => Fenced, Retry::STORE
}

/// A fence that is in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fenced {
    /// When it was set. Command names contain it, because work before an earlier fence proves nothing.
    pub at: Millis,
}

activity! {
    /// Removes the node from its target machine, as [`FenceSource`] does from the source.
    FenceTarget = "fence_target": Moving => Fenced, Retry::UNDO
}

activity! {
    /// Checks whether the last lease of the fenced machine has certainly expired.
    CheckFence = "check_fence": Moving => Ready, Retry::STORE
}

activity! {
    /// Assigns the node to the target machine. Allowed only after the old process has stopped or its lease has
    /// expired.
    PlaceOnTarget = "place_on_target": Moving => (), Retry::STORE
}

activity! {
    /// Assigns the node to its source machine again, which may then run its processes.
    RestoreSource = "restore_source": Moving => (), Retry::UNDO
}

activity! {
    /// Checks whether the node has been healthy for the given time.
    CheckSettled = "check_settled": SettledQuery => Ready, Retry::STORE
}

/// A node, and how long it must be healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledQuery {
    /// The node and the operation.
    #[serde(flatten)]
    pub node: NodeRef,
    /// How long.
    #[serde(with = "duration_text")]
    pub settle: Duration,
}

activity! {
    /// Closes the operation as succeeded. The source machine removes the node's data as soon as it is reachable. If
    /// the source was a machine of the node's own, its agent is revoked and the machine is released to its provider
    /// as soon as possible.
    ReleaseSource = "release_source": Moving => (), Retry::STORE
}

activity! {
    /// Checks whether [`ReleaseSource`] was done.
    CheckConcluded = "check_concluded": NodeRef => Ready, Retry::UNDO
}

activity! {
    /// Closes the operation of a failed node migration: the node is `down`, the operation has the reason, and an
    /// incident is raised.
    MarkMigrationFailed = "mark_migration_failed": FailedNode => (), Retry::UNDO
}
