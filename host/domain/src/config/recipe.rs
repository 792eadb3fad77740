//! `recipes/{chain}/{node_type}.yaml`: the steps that install a node into an empty folder.
//!
//! A step has a `type` and the type's own block under `with`. The agent undoes finished steps in reverse order by
//! itself, so a recipe contains no undos.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalars::{DurationText, SchemaVersion};
use crate::time::duration_text;

/// The steps for one node type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Version of the file format.
    pub schema_version: SchemaVersion,
    /// About the recipe, for people.
    #[serde(default)]
    pub metadata: RecipeMetadata,
    /// The steps, in order.
    #[schemars(length(min = 1))]
    pub steps: Vec<Step>,
}

/// About a recipe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecipeMetadata {
    /// One sentence for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub summary: String,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name within the recipe.
    pub name: String,
    /// A template: the step runs when it renders to something other than nothing and `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// The step is done when this path of the node exists; a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creates: Option<String>,
    /// The time limit of one attempt.
    #[serde(default = "default_timeout", with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
    /// How often it is attempted.
    #[serde(default)]
    pub retry: Retry,
    /// What it does.
    #[serde(flatten)]
    pub action: StepAction,
}

fn default_timeout() -> Duration {
    Duration::from_mins(5)
}

/// How often a step is attempted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// The number of attempts, including the first.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// Pause before the second attempt; it doubles.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub backoff: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 1,
            backoff: Duration::from_secs(2),
        }
    }
}

/// The action of a step. Texts are templates unless a field says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "with", rename_all = "snake_case")]
#[schemars(inline)]
pub enum StepAction {
    /// Installs a package into the node's folder with the client of its package manager.
    Package(PackageStep),
    /// Creates a folder.
    Directory(DirectoryStep),
    /// Writes a file.
    File(FileStep),
    /// Downloads a file.
    Download(DownloadStep),
    /// Unpacks an archive.
    Extract(ExtractStep),
    /// Links a program under `bin/`.
    Binary(BinaryStep),
    /// Registers and starts the process of runtime.yaml.
    Process(ProcessStep),
    /// Writes a key of the profile.
    Key(KeyStep),
    /// Waits until a target answers.
    WaitFor(WaitForStep),
}

/// Installs a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PackageStep {
    /// The package manager.
    pub manager: PackageManager,
    /// The package's name.
    pub name: String,
    /// Its exact version.
    pub version: String,
    /// npm: `sha512-<base64>`; pip and apt: `sha256:<hex>` of the wheel or the .deb.
    pub integrity: String,
    /// Links under `bin/` of the node's folder, each with its target file inside the package.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binaries: BTreeMap<String, String>,
}

/// Package managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum PackageManager {
    /// Node packages.
    Npm,
    /// Python wheels.
    Pip,
    /// Debian packages.
    Apt,
}

/// Creates a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectoryStep {
    /// Within the node's folder.
    pub path: String,
    /// Permissions, as four octal digits in quotes.
    #[serde(default = "default_directory_mode")]
    #[schemars(pattern(r"^0[0-7]{3}$"), extend("x-expects" = "permissions such as `\"0750\"`, in quotes"))]
    pub mode: String,
}

fn default_directory_mode() -> String {
    "0750".to_owned()
}

/// Writes a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileStep {
    /// Within the node's folder.
    pub path: String,
    /// Its content.
    pub content: String,
    /// Permissions, as four octal digits in quotes.
    #[serde(default = "default_file_mode")]
    #[schemars(pattern(r"^0[0-7]{3}$"), extend("x-expects" = "permissions such as `\"0640\"`, in quotes"))]
    pub mode: String,
}

fn default_file_mode() -> String {
    "0640".to_owned()
}

/// Downloads a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DownloadStep {
    /// The URL: http or https.
    pub url: String,
    /// The destination within the node's folder.
    pub path: String,
    /// Its checksum: `sha256:<hex>`, or a template such as `{{.Binaries.node.checksum}}`.
    pub checksum: String,
}

/// Unpacks an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtractStep {
    /// The archive, within the node's folder.
    pub archive: String,
    /// The destination within the node's folder.
    pub path: String,
    /// Leading path parts to drop.
    #[serde(default)]
    #[schemars(range(max = 32))]
    pub strip: u32,
}

/// Links a program under `bin/`, replacing an existing link atomically.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BinaryStep {
    /// Its name under `bin/`; not a template.
    pub name: String,
    /// The file, within the node's folder.
    pub source: String,
    /// Its version.
    pub version: String,
}

/// Writes a key of the profile to its path, readable only by the node's user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyStep {
    /// The key's name in the profile; not a template.
    pub name: String,
}

/// Starts the process of runtime.yaml. Values here replace those of runtime.yaml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessStep {
    /// The process's name; not a template.
    pub name: String,
    /// Program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Environment, added to that of runtime.yaml.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Waits until one target answers; exactly one of `tcp`, `http` and `path` is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitForStep {
    /// `host:port` that accepts a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// URL that answers with a 2xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Path within the node's folder that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Pause between two polls.
    #[serde(default = "default_interval", with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub interval: Duration,
}

fn default_interval() -> Duration {
    Duration::from_millis(250)
}
