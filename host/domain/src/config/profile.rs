//! `chains/{chain}/profile.yaml`: what a chain is, where its nodes may run and which plugins it uses.
//!
//! Fields exist only for what this host implements; every other key is an error, so that no file promises more.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::scalars::{DurationText, SchemaVersion, Sha256, optional_duration};
use crate::key::KeyAlgorithm;
use crate::plugin::{Grants, Limits};

/// Identity, node types, binaries, inputs and plugins of a chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Version of the file format.
    pub schema_version: SchemaVersion,
    /// The chain's id: the name of its folder.
    pub chain_id: String,
    /// The chain's name for people.
    pub display_name: String,
    /// Whether the network has real value.
    pub network_type: NetworkType,
    /// The family of chains that it belongs to, such as `evm`; a label for people and routes.
    pub chain_type: String,
    /// The kinds of nodes that can be created; each has a recipe.
    pub node_types: BTreeMap<String, NodeType>,
    /// Binaries that recipes install.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binaries: BTreeMap<String, BinarySource>,
    /// Keys that each node has; recipes write them by `key` steps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, KeyUse>,
    /// Values that a person must enter before a node is provisioned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Input>,
    /// Components that observe and judge this chain's nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plugins: BTreeMap<String, PluginUse>,
}

/// Whether a network has real value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum NetworkType {
    /// Real value.
    Mainnet,
    /// A public test network.
    Testnet,
    /// A private development network.
    Devnet,
}

impl NetworkType {
    /// The name in YAML and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::Testnet => "testnet",
            Self::Devnet => "devnet",
        }
    }
}

/// One kind of node of a chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeType {
    /// What a node needs.
    pub resources: Resources,
    /// The machine providers to choose from by default, in order of preference.
    pub default_providers: Vec<String>,
    /// The machine providers that such a node can run on.
    pub providers: BTreeMap<String, Provider>,
    /// Additional values for recipes: `{{.SyncData.<key>}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sync_data: BTreeMap<String, String>,
    /// Price by term, such as `30d`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub price: BTreeMap<String, Price>,
}

/// What a node needs from its machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Processors.
    #[schemars(range(min = 1))]
    pub cpu: u32,
    /// Memory in GB.
    #[schemars(range(min = 1))]
    pub memory_gb: u32,
    /// Disk in GB.
    #[schemars(range(min = 1))]
    pub disk_gb: u32,
    /// Kind of disk.
    #[serde(default)]
    pub disk_type: DiskType,
}

/// Kinds of disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum DiskType {
    /// Spinning disk.
    Hdd,
    /// Solid state.
    #[default]
    Ssd,
    /// Solid state on PCIe.
    Nvme,
}

/// A machine provider for a node type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The provider's instance type.
    pub instance_type: String,
    /// The default region; one of `regions`.
    pub default_region: String,
    /// The available regions.
    pub regions: Vec<String>,
    /// Another instance type for a term, such as `365d`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_duration: BTreeMap<String, TermMachine>,
}

/// The instance type for one subscription term.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TermMachine {
    /// The provider's instance type.
    pub instance_type: String,
}

/// A price in integer minor units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Minor units, such as cents.
    pub amount: u64,
    /// ISO 4217 or token code, such as `USD`.
    pub currency: String,
}

/// The source of a binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BinarySource {
    /// Its version.
    pub version: String,
    /// Its download URL; `{{.Version}}` is its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_template: Option<String>,
    /// Digest of the download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Sha256>,
}

/// A key that each node of the chain has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyUse {
    /// Its source.
    #[serde(default)]
    pub source: KeySource,
    /// Its algorithm.
    pub algorithm: KeyAlgorithm,
    /// The file in the node's folder that a `key` step writes; not a template.
    pub path: String,
    /// The encoding of the file.
    #[serde(default)]
    pub encoding: KeyEncoding,
    /// Whether it may leave the host, encrypted for a person who may export keys.
    #[serde(default)]
    pub exportable: bool,
}

/// The source of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum KeySource {
    /// The host generates it when the node is provisioned.
    #[default]
    Generated,
    /// A person uploads it; the node's installation waits for it at its `key` step.
    User,
}

/// How a file encodes the 32 bytes of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum KeyEncoding {
    /// 64 hexadecimal digits.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
    /// The raw bytes.
    Raw,
}

/// A value that a person enters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// When it is required.
    #[serde(default)]
    pub phase: InputPhase,
    /// Its type.
    #[serde(rename = "type", default)]
    pub kind: InputType,
    /// Whether a node requires it. An optional input without a value is the empty text.
    #[serde(default)]
    pub required: bool,
    /// Regular expression that the whole value must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

impl Input {
    /// Validates a value; the error says which values are valid.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let has_type = match self.kind {
            InputType::String => true,
            InputType::Integer => value.parse::<i64>().is_ok(),
            InputType::Boolean => matches!(value, "true" | "false"),
        };
        if !has_type {
            let wanted = match self.kind {
                InputType::String => "text",
                InputType::Integer => "a whole number",
                InputType::Boolean => "`true` or `false`",
            };
            return Err(format!("must be {wanted}"));
        }
        let Some(pattern) = &self.pattern else {
            return Ok(());
        };
        // Loading rejects an invalid pattern; if one passes, it matches nothing.
        let is_match =
            regex::Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|whole| whole.is_match(value));
        if is_match {
            Ok(())
        } else {
            Err(format!("must match the pattern `{pattern}` completely"))
        }
    }
}

/// When an input is required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum InputPhase {
    /// Before the node is provisioned.
    #[default]
    PreProvision,
}

/// The type of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum InputType {
    /// Any text.
    #[default]
    String,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
}

/// A component under a name, with its grants and limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginUse {
    /// Path of the component, relative to the folder of chain configurations.
    pub component: String,
    /// Digest of the component; required outside development.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Sha256>,
    /// Configuration, validated by the schema that the plugin exports.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// What it may access; nothing by default.
    #[serde(default)]
    pub grants: Grants,
    /// Limits that differ from the defaults of its kind.
    #[serde(default)]
    pub limits: LimitsOverride,
}

/// Limits of a plugin that differ from the defaults of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsOverride {
    /// Linear memory, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub memory_mib: Option<u32>,
    /// The time limit for the guest's computing.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_duration"
    )]
    #[schemars(with = "Option<DurationText>")]
    pub cpu: Option<Duration>,
    /// The time limit of the whole call, including waits for the host.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_duration"
    )]
    #[schemars(with = "Option<DurationText>")]
    pub wall: Option<Duration>,
    /// The maximum size of one HTTP request or response body, in KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    pub http_body_kib: Option<u32>,
    /// The maximum number of host calls in one call of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_calls: Option<u32>,
    /// The maximum number of log lines in one call of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_lines: Option<u32>,
}

impl LimitsOverride {
    /// The limits of a kind with these overrides.
    pub fn over(&self, base: &Limits) -> Limits {
        Limits {
            memory_mib: self.memory_mib.unwrap_or(base.memory_mib),
            cpu: self.cpu.unwrap_or(base.cpu),
            wall: self.wall.unwrap_or(base.wall),
            http_body_kib: self.http_body_kib.unwrap_or(base.http_body_kib),
            host_calls: self.host_calls.unwrap_or(base.host_calls),
            log_lines: self.log_lines.unwrap_or(base.log_lines),
        }
    }
}
