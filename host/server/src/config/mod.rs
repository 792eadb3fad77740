//! What an operator can set: one struct per section, each key documented and defaulted here.
//!
//! Values are checked once, when they are read; modules get their section, not the whole.

mod read;

pub use read::ConfigError;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use host_bus::EventsConfig;
use host_domain::health::HeartbeatConfig;
use host_domain::migration::MigrationConfig;
use host_domain::subscription::SubscriptionConfig;
use host_domain::time::duration_text;
use host_engine::WorkflowsConfig;
use host_gateway::GatewayConfig;
use host_keys::KeysConfig;
use host_machines::MachineProvidersConfig;
use host_secrets::{SecretsConfig, VaultKvConfig};
use host_store::DatabaseConfig;
use host_wire::state_folder::STATE_FOLDER;
use serde::{Deserialize, Serialize};

/// Everything that can be set in `bellwether.yaml` or by `BELLWETHER_…` variables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of the host's own files: authority, keys, caches, the workflow engine's file.
    pub state_dir: PathBuf,
    /// The HTTP API and the console.
    pub http: HttpConfig,
    /// Where agents connect.
    pub gateway: GatewayConfig,
    /// Our database.
    pub database: DatabaseConfig,
    /// The event bus.
    pub events: EventsConfig,
    /// The workflow engine.
    pub workflows: WorkflowsConfig,
    /// Chain configurations and plugins.
    pub chains: ChainsConfig,
    /// Judging nodes.
    pub health: HealthConfig,
    /// Making and removing nodes.
    pub provisioning: ProvisioningConfig,
    /// Where machines come from.
    pub providers: MachineProvidersConfig,
    /// Nodes' keys.
    pub keys: KeysConfig,
    /// Where the values of plugin secrets are, by the names that grants use: `{file: …}`, `{env: …}` or `{vault: {path: …, field: …}}`.
    pub secrets: SecretsConfig,
    /// The vault that holds plugin secrets; needed only for secrets with `vault`.
    pub vault: Option<VaultKvConfig>,
    /// Moving nodes to other hosts, and the leases of processes with keys.
    pub migration: MigrationConfig,
    /// How long payments are waited for.
    pub subscriptions: SubscriptionConfig,
    /// How long records are kept.
    pub retention: RetentionConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from(STATE_FOLDER),
            http: HttpConfig::default(),
            gateway: GatewayConfig::default(),
            database: DatabaseConfig::default(),
            events: EventsConfig::default(),
            workflows: WorkflowsConfig::default(),
            chains: ChainsConfig::default(),
            health: HealthConfig::default(),
            provisioning: ProvisioningConfig::default(),
            providers: MachineProvidersConfig::default(),
            keys: KeysConfig::default(),
            secrets: SecretsConfig::default(),
            vault: None,
            migration: MigrationConfig::default(),
            subscriptions: SubscriptionConfig::default(),
            retention: RetentionConfig::default(),
        }
    }
}

/// The HTTP API and the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address to listen on; port 0 means any free one.
    pub listen: SocketAddr,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
        }
    }
}

/// Chain configurations and plugins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChainsConfig {
    /// Folder of the chain configurations; it is watched.
    pub dir: PathBuf,
    /// Whether components may be used without a digest; for development only.
    pub allow_undigested: bool,
    /// Largest component, in MiB.
    pub component_max_mib: u32,
    /// Pause after a change before the folder is read again, so that an editor can finish writing.
    #[serde(with = "duration_text")]
    pub settle: Duration,
}

impl Default for ChainsConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("chain-configs"),
            allow_undigested: false,
            component_max_mib: 4,
            settle: Duration::from_millis(200),
        }
    }
}

/// Judging nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// Beats and what missing them means.
    pub heartbeat: HeartbeatConfig,
    /// A node that is in maintenance for longer is taken back to work, or told of when its agent is silent.
    #[serde(with = "duration_text")]
    pub maintenance_max: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            heartbeat: HeartbeatConfig::default(),
            maintenance_max: Duration::from_hours(4),
        }
    }
}

/// Making and removing nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProvisioningConfig {
    /// Until the agent of a node's host is connected.
    #[serde(with = "duration_text")]
    pub agent_wait: Duration,
    /// For the recipe.
    #[serde(with = "duration_text")]
    pub install: Duration,
    /// Until a node is seen healthy.
    #[serde(with = "duration_text")]
    pub first_healthy: Duration,
    /// For removing a node.
    #[serde(with = "duration_text")]
    pub uninstall: Duration,
    /// How long an enrolment token can be used.
    #[serde(with = "duration_text")]
    pub token_life: Duration,
}

impl Default for ProvisioningConfig {
    fn default() -> Self {
        Self {
            agent_wait: Duration::from_mins(10),
            install: Duration::from_hours(2),
            first_healthy: Duration::from_hours(1),
            uninstall: Duration::from_mins(10),
            token_life: Duration::from_mins(15),
        }
    }
}

/// How long records are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Observations; policies look back at most this far.
    #[serde(with = "duration_text")]
    pub observations: Duration,
    /// The log that event streams resume from.
    #[serde(with = "duration_text")]
    pub events: Duration,
    /// Histories of workflows that have ended.
    #[serde(with = "duration_text")]
    pub workflows: Duration,
    /// Keys of nodes that were terminated.
    #[serde(with = "duration_text")]
    pub keys: Duration,
    /// State of plugins that are no longer configured.
    #[serde(with = "duration_text")]
    pub plugin_state: Duration,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            observations: Duration::from_hours(24),
            events: Duration::from_hours(168),
            workflows: Duration::from_hours(168),
            keys: Duration::from_hours(30 * 24),
            plugin_state: Duration::from_hours(30 * 24),
        }
    }
}
