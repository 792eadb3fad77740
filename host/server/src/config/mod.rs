//! The settings of a host: one struct for each section, with the default of each key. Each adapter owns its section.
//!
//! `docs/configuration.md` and `deploy/bellwether.example.yaml` are generated from these structs and their doc lines. Values
//! are checked once, when the host reads them.

mod read;

pub use read::ConfigError;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use host_bus::EventsConfig;
use host_domain::config::scalars::DurationText;
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
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything that can be set in `bellwether.yaml` or by `BELLWETHER_…` variables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder for the host's own files: its certificate authority, keys, caches, the SQLite database and the state of the workflow engine.
    pub state_dir: PathBuf,
    /// The HTTP API and the console.
    pub http: HttpConfig,
    /// The gRPC server that agents connect to.
    pub gateway: GatewayConfig,
    /// The database of the installation.
    pub database: DatabaseConfig,
    /// How the hosts of one installation notify each other. Without NATS there is one host, and events stay in its process.
    pub events: EventsConfig,
    /// The engine that runs workflows.
    pub workflows: WorkflowsConfig,
    /// Chain configurations and plugins.
    pub chains: ChainsConfig,
    /// How the host judges the health of nodes.
    pub health: HealthConfig,
    /// Time limits for creating and removing nodes.
    pub provisioning: ProvisioningConfig,
    /// Where machines come from: machine providers by the name that chain profiles use. `local` always exists.
    pub machine_providers: MachineProvidersConfig,
    /// How the host encrypts and backs up the keys of nodes.
    pub keys: KeysConfig,
    /// Where the values of plugin secrets are, by the names that grants use.
    pub secrets: SecretsConfig,
    /// Vault with the values of plugin secrets that name `vault`.
    pub vault: Option<VaultKvConfig>,
    /// Migration of nodes to other machines, and the leases that keep a node's keys from being used on two machines at once.
    pub migration: MigrationConfig,
    /// How long the host waits for payments.
    pub subscriptions: SubscriptionConfig,
    /// How long the host keeps records.
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
            machine_providers: MachineProvidersConfig::default(),
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address and port to listen on; port 0 picks a free port.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChainsConfig {
    /// Folder of the chain configurations. The host reloads it when a file changes.
    pub dir: PathBuf,
    /// Whether the host loads plugins whose configuration states no digest; for development only.
    pub allow_undigested: bool,
    /// Largest plugin file, in MiB.
    pub component_max_mib: u32,
    /// Pause between a change in the folder and the reload, so that an editor can finish writing.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
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

/// How the host judges the health of nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// When the host considers a node down because its heartbeats are missing.
    pub heartbeat: HeartbeatConfig,
    /// Longest maintenance. After it, the host ends the maintenance, or opens an incident when the node's agent does not answer.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
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

/// Time limits for creating and removing nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProvisioningConfig {
    /// Longest wait for the agent of a new node's machine to connect.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub agent_wait: Duration,
    /// Longest run of the install recipe.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub install: Duration,
    /// Longest wait for the first healthy verdict on a new node.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub first_healthy: Duration,
    /// Longest time to remove a node from its machine.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub uninstall: Duration,
    /// How long an enrolment token is valid.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
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

/// How long the host keeps records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Observations. Policies see no older ones.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub observations: Duration,
    /// The event log, from which event streams resume.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub events: Duration,
    /// Histories of workflows that have ended.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub workflows: Duration,
    /// Keys of terminated nodes.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub keys: Duration,
    /// The audit log: who did what, to which object.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub audit: Duration,
    /// API keys that were revoked or have expired.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub api_keys: Duration,
    /// State of plugins that are no longer configured.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub plugin_state: Duration,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            observations: Duration::from_hours(24),
            events: Duration::from_hours(168),
            workflows: Duration::from_hours(168),
            keys: Duration::from_hours(30 * 24),
            audit: Duration::from_hours(400 * 24),
            api_keys: Duration::from_hours(90 * 24),
            plugin_state: Duration::from_hours(30 * 24),
        }
    }
}
