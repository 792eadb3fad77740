//! Callers and their scopes.

use std::collections::BTreeSet;

use super::idempotency::RequestKey;

/// A caller and its scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// For the audit log: the name of the API key.
    pub name: String,
    /// What the caller may do.
    pub scopes: BTreeSet<Scope>,
    /// The idempotency key of the request.
    pub request: Option<RequestKey>,
    /// Names the API request in the audit log and in the host's log.
    pub request_id: Option<String>,
}

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// What a caller may do.
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
    /// Export keys of nodes, sealed.
    KeysExport = "keys:export",
    /// Read one's own subscriptions.
    SubscriptionsRead = "subscriptions:read",
    /// Create and cancel one's own subscriptions.
    SubscriptionsWrite = "subscriptions:write",
    /// Read incidents.
    IncidentsRead = "incidents:read",
    /// Acknowledge and resolve incidents.
    IncidentsWrite = "incidents:write",
    /// Everything.
    Admin = "admin",
}

impl Principal {
    /// The host itself, for what no caller of the API requested.
    pub(crate) fn host() -> Self {
        Self {
            name: "host".to_owned(),
            scopes: BTreeSet::new(),
            request: None,
            request_id: None,
        }
    }

    /// The same caller for the further effects of one request: the first effect takes the request's key.
    pub(crate) fn keyless(&self) -> Self {
        Self {
            request: None,
            ..self.clone()
        }
    }

    /// Whether the caller may do what `scope` covers.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}
