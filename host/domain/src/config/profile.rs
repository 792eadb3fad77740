//! `chains/{chain}/profile.yaml`: what a chain is, where its nodes may run and which plugins know it.
//!
//! Only what this host acts on is a field; everything else is an unknown key, so that no file promises what nothing does.

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
    /// What the network is worth.
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
    /// What a person is asked for before a node is provisioned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Input>,
    /// Components that observe and judge this chain's nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plugins: BTreeMap<String, PluginUse>,
}

/// What a network is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum NetworkType {
    /// Real value.
    Mainnet,
    /// A public rehearsal.
    Testnet,
    /// A private toy.
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
    /// Providers to choose from when none is named, in order of preference.
    pub default_providers: Vec<String>,
    /// Where such a node can run.
    pub providers: BTreeMap<String, Provider>,
    /// Free values for recipes: `{{.SyncData.<key>}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sync_data: BTreeMap<String, String>,
    /// Price by term, such as `30d`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub price: BTreeMap<String, Price>,
}

/// What a node needs of a machine.
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

/// One place where a node type can run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The provider's name for the machine.
    pub instance_type: String,
    /// The region when none is named; one of `regions`.
    pub default_region: String,
    /// The regions to choose from.
    pub regions: Vec<String>,
    /// Another machine for a term, such as `365d`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_duration: BTreeMap<String, TermMachine>,
}

/// The machine for one term of subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TermMachine {
    /// The provider's name for the machine.
    pub instance_type: String,
}

/// A price in integer minor units, never a fraction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Minor units, such as cents.
    pub amount: u64,
    /// ISO 4217 or token code, such as `USD`.
    pub currency: String,
}

/// Where a binary comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BinarySource {
    /// Its version.
    pub version: String,
    /// Where it is downloaded from; `{{.Version}}` is its version.
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
    /// Where it comes from.
    #[serde(default)]
    pub source: KeySource,
    /// What it is.
    pub algorithm: KeyAlgorithm,
    /// The file of the node's folder that a `key` step writes; no template.
    pub path: String,
    /// How the file holds it.
    #[serde(default)]
    pub encoding: KeyEncoding,
    /// Whether it may leave the host, sealed to a person who may export keys.
    #[serde(default)]
    pub exportable: bool,
}

/// Where a key comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum KeySource {
    /// The host makes it when the node is provisioned.
    #[default]
    Generated,
    /// A person brings it; the node's installation waits for it at its `key` step.
    User,
}

/// How a file holds the 32 bytes of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum KeyEncoding {
    /// 64 hexadecimal digits.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
    /// The bytes themselves.
    Raw,
}

/// Something that a person is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// When it is asked for.
    #[serde(default)]
    pub phase: InputPhase,
    /// What it is.
    #[serde(rename = "type", default)]
    pub kind: InputType,
    /// Whether a node can't be created without it. An optional input that was not given is empty text.
    #[serde(default)]
    pub required: bool,
    /// Regular expression that the whole value must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

impl Input {
    /// Holds a value that a person gave against what the input is; the error says what would be right.
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
        // Validation refuses a pattern that does not compile; one that slipped through matches nothing.
        let is_match =
            regex::Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|whole| whole.is_match(value));
        if is_match {
            Ok(())
        } else {
            Err(format!("must match `{pattern}` as a whole"))
        }
    }
}

/// When an input is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum InputPhase {
    /// Before the node is provisioned.
    #[default]
    PreProvision,
}

/// What an input is.
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

/// A component under a name, with what it may touch and what bounds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginUse {
    /// Path of the component, relative to the folder of chain configurations.
    pub component: String,
    /// Digest of the component; required outside development.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Sha256>,
    /// Configuration, checked against the schema that the plugin exports.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// What it may touch; nothing unless listed.
    #[serde(default)]
    pub grants: Grants,
    /// Limits that differ from those of its kind.
    #[serde(default)]
    pub limits: LimitsOverride,
}

/// Limits of a plugin that differ from those of its kind; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsOverride {
    /// Linear memory, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub memory_mib: Option<u32>,
    /// Time that the guest may compute.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_duration"
    )]
    #[schemars(with = "Option<DurationText>")]
    pub cpu: Option<Duration>,
    /// Time for the whole call, waits on the host included.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_duration"
    )]
    #[schemars(with = "Option<DurationText>")]
    pub wall: Option<Duration>,
    /// Bytes of one HTTP request or answer body, in KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    pub http_body_kib: Option<u32>,
    /// Calls into the host in one call of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_calls: Option<u32>,
    /// Log lines in one call of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_lines: Option<u32>,
}

impl LimitsOverride {
    /// The limits of a kind with these in place of some.
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
