//! What use-cases take and give: plain data, neither rows nor JSON.

use std::collections::{BTreeMap, BTreeSet};

use std::str::FromStr;
use std::time::Duration;

use host_domain::heartbeat::ProcessStatus;
use host_domain::ids::NodeId;
use host_domain::node::{Node, Reason};
use host_domain::observation::Observation;
use host_domain::revision::Revision;
use host_domain::subscription::Subscription;
use host_domain::time::Millis;

pub use super::idempotency::RequestKey;
pub use host_store::{
    DeadLetter, IncidentFilter, IncidentHistoryEntry as IncidentHistoryRow,
    NodeEventEntry as NodeEventRow, NodeFilter, OperationFilter, SubscriptionFilter,
};

use super::OpError;

/// Who asks, and what they may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// For the audit log: the name of the key.
    pub name: String,
    /// What they may.
    pub scopes: BTreeSet<Scope>,
    /// The key by which they ask for something to be done once.
    pub request: Option<RequestKey>,
    /// Names the API request in the audit log and in the host's log.
    pub request_id: Option<String>,
}

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// What a caller may do (design: api.md, Authentication).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Scope { $($(#[$doc])* $name),+ }

        impl Scope {
            /// Every scope.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The name in keys and in the API.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// Reads the name.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

scopes! {
    /// Read nodes, chains and their health.
    NodesRead = "nodes:read",
    /// Create, restart and terminate nodes.
    NodesWrite = "nodes:write",
    /// Take keys of nodes away, sealed.
    KeysExport = "keys:export",
    /// Read one's own subscriptions.
    SubscriptionsRead = "subscriptions:read",
    /// Make and cancel one's own subscriptions.
    SubscriptionsWrite = "subscriptions:write",
    /// Read incidents.
    IncidentsRead = "incidents:read",
    /// Acknowledge and resolve incidents.
    IncidentsWrite = "incidents:write",
    /// Everything.
    Admin = "admin",
}

impl Principal {
    /// The host itself, for what nobody asked for over the API.
    pub(crate) fn host() -> Self {
        Self {
            name: "host".to_owned(),
            scopes: BTreeSet::new(),
            request: None,
            request_id: None,
        }
    }

    /// The same caller for what else one request does: its key is taken once, by the first thing.
    pub(crate) fn keyless(&self) -> Self {
        Self {
            request: None,
            ..self.clone()
        }
    }

    /// Whether they may do what `scope` covers.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The items, at most as many as were asked for.
    pub items: Vec<T>,
    /// Where the next part begins; `None` at the end.
    pub next: Option<String>,
}

/// Which part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// At most so many items, 1 to 200.
    pub limit: u32,
    /// `next` of the part before.
    pub cursor: Option<String>,
}

/// Most items of one part of a list.
pub const PAGE_MAX: u32 = 200;

impl PageRequest {
    /// The key that the cursor stands for.
    pub(crate) fn after<K: FromStr>(&self) -> Result<Option<K>, OpError> {
        let parse = |cursor: &String| {
            cursor.parse().map_err(|_| {
                OpError::invalid(
                    "/cursor",
                    "is not a cursor of this list; leave it out to begin at the start",
                )
            })
        };
        self.cursor.as_ref().map(parse).transpose()
    }

    /// One row more than is shown tells whether there is a next part.
    pub(crate) fn rows(&self) -> u32 {
        self.shown().saturating_add(1)
    }

    fn shown(&self) -> u32 {
        self.limit.clamp(1, PAGE_MAX)
    }
}

impl<T> Page<T> {
    /// Makes a part of the list out of [`PageRequest::rows`] rows.
    pub(crate) fn cut(mut rows: Vec<T>, page: &PageRequest, key: impl Fn(&T) -> String) -> Self {
        let shown = page.shown() as usize;
        let has_more = rows.len() > shown;
        rows.truncate(shown);
        let next = if has_more { rows.last().map(key) } else { None };
        Self { items: rows, next }
    }
}

/// What a new node shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateNode {
    /// Chain profile id.
    pub chain: String,
    /// One of the profile's node types; empty for the only one.
    pub node_type: String,
    /// For people; made up when absent.
    pub name: Option<String>,
    /// One of the node type's providers; its first default when absent.
    pub provider: Option<String>,
    /// One of the provider's regions; its default when absent.
    pub region: Option<String>,
    /// Values of the profile's inputs.
    pub inputs: BTreeMap<String, String>,
}

/// What a new subscription shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateSubscription {
    /// The node that it is for; it gets a name when it is made.
    pub node: CreateNode,
    /// What one payment buys.
    pub duration: Duration,
}

/// A subscription with its node.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionDetails {
    /// The subscription.
    pub subscription: Subscription,
    /// Its node, once it is paid.
    pub node: Option<NodeId>,
}

/// A node with what was last heard of it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeDetails {
    /// The node.
    pub node: Node,
    /// The newest observation of each name.
    pub latest: BTreeMap<String, Observation>,
    /// The newest beat.
    pub last_heartbeat: Option<Millis>,
    /// Its processes at that beat.
    pub processes: Vec<ProcessStatus>,
}

/// Why a node's health is what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthExplanation {
    /// The node.
    pub node: Node,
    /// Reasons of the newest verdict, whether it counts yet or not.
    pub reasons: Vec<Reason>,
    /// A health that is seen but does not count yet, and since when.
    pub pending: Option<(host_domain::node::ApplicationHealth, Millis)>,
    /// Whether it is held at its worst because it changes too often.
    pub flapping: bool,
    /// Evaluations in a row that found a beat missed.
    pub consecutive_failures: u32,
    /// The newest beat.
    pub last_heartbeat: Option<Millis>,
    /// The newest observations.
    pub latest: BTreeMap<String, Observation>,
}

/// A plugin: its revisions, and how the active one does.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginView {
    /// The chain that declares it, or `notifications`.
    pub scope: String,
    /// Its name there.
    pub plugin: String,
    /// The active revision, when there is one.
    pub active: Option<Revision>,
    /// Up to ten revisions, newest first.
    pub revisions: Vec<Revision>,
    /// Calls of the active revision in this process.
    pub stats: PluginStats,
}

/// How a plugin does, counted since this process loaded it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PluginStats {
    /// Calls.
    pub calls: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Mean time of a call, in milliseconds.
    pub mean_ms: f64,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Whether the breaker keeps calls away.
    pub is_open: bool,
}

/// A chain as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainView {
    /// Chain profile id.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// `mainnet`, `testnet` or `devnet`.
    pub network_type: String,
    /// Family of the chain.
    pub chain_type: String,
    /// Node types and their providers with regions.
    pub node_types: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Names and whether they are required, of inputs asked before provisioning.
    pub inputs: BTreeMap<String, bool>,
    /// Names of the plugins that it declares.
    pub plugins: Vec<String>,
    /// Content digest of the folder version that it came with.
    pub version: String,
}

/// A one-time token, shown once.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token itself.
    pub token: secrecy::SecretString,
    /// The machine that the agent will belong to.
    pub machine: String,
    /// When it ends.
    pub expires_at: Millis,
}
