//! Identifiers: one newtype per noun, so that a command id can't be passed as a node id.
//!
//! They are UUID v7, which sort by creation time; generating one is not pure, so callers do it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

id! {
    /// A blockchain node that Bellwether runs.
    NodeId,
    /// What a customer pays for; each node belongs to exactly one.
    SubscriptionId,
    /// A machine that nodes run on.
    MachineId,
    /// An enrolled agent; the subject of its certificate.
    AgentId,
    /// One command to an agent.
    CommandId,
    /// An incident.
    IncidentId,
    /// A row of the outbox.
    EventId,
    /// Long work that a client can wait for.
    OperationId,
    /// A message to a receiver.
    NotificationId,
    /// A revision of a plugin.
    RevisionId,
    /// A key of a node.
    KeyId,
    /// An API key.
    ApiKeyId,
}
