//! What the host gives to the gateway.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use host_domain::key::NodeKey;
use host_domain::node::Node;
use host_domain::time::Clock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::{AssignmentSource, CertificateAuthority, GatewayEvents, GatewayStore, Sessions};

/// Finds the file of a component by its digest (`sha256:<hex>`).
pub type ComponentLookup = Arc<dyn Fn(&str) -> Option<PathBuf> + Send + Sync>;

/// Opens a node's sealed key for its agent.
pub type KeyOpener = Arc<
    dyn Fn(NodeKey) -> BoxFuture<'static, Result<Zeroizing<Vec<u8>>, KeyOpenError>> + Send + Sync,
>;

/// Whether a person still has to import a node's key of that name.
pub type KeyImportCheck = Arc<dyn Fn(&Node, &str) -> bool + Send + Sync>;

/// Why a key was not opened.
#[derive(Debug, thiserror::Error)]
#[error("the key can't be opened")]
pub struct KeyOpenError {
    /// Whether the agent can retry soon.
    pub is_transient: bool,
    /// The cause.
    pub source: anyhow::Error,
}

/// What the gateway works with.
#[derive(Clone)]
pub struct GatewayParts {
    /// The database.
    pub store: Arc<dyn GatewayStore>,
    /// The time, for certificates, tokens and beats.
    pub clock: Arc<dyn Clock>,
    /// Signs certificates.
    pub authority: Arc<CertificateAuthority>,
    /// The connected agents.
    pub sessions: Sessions,
    /// Handles what agents report.
    pub events: Arc<dyn GatewayEvents>,
    /// Decides what agents measure.
    pub assignments: Arc<dyn AssignmentSource>,
    /// Finds the components that agents fetch.
    pub components: ComponentLookup,
    /// Opens the keys that agents fetch.
    pub keys: KeyOpener,
    /// Tells a key that a person still has to import from a key that does not exist.
    pub awaits_key_import: KeyImportCheck,
    /// Stops the gateway.
    pub shutdown: CancellationToken,
    /// Tracks every task, so that the host can wait for their end.
    pub tasks: TaskTracker,
}
