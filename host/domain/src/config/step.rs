//! A recipe's rendered steps: what an agent executes, independent of YAML and protobuf.
//!
//! Paths are relative to the node's folder and stay within it; rendering has verified that.

use std::collections::BTreeMap;
use std::time::Duration;

use super::profile::KeyEncoding;
use super::recipe::{PackageManager, Retry};
use super::runtime::{Adapter, ProcessLog, Restart};

/// One rendered step.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedStep {
    /// Its name within the recipe.
    pub name: String,
    /// The step is done when this path exists.
    pub creates: Option<String>,
    /// The time limit of one attempt.
    pub timeout: Duration,
    /// How often it is attempted.
    pub retry: Retry,
    /// What it does.
    pub action: RenderedAction,
}

/// What a rendered step does.
#[derive(Clone, Debug, PartialEq)]
pub enum RenderedAction {
    /// Installs a package into the node's folder.
    Package {
        /// The package manager.
        manager: PackageManager,
        /// The package's name.
        name: String,
        /// Its exact version.
        version: String,
        /// npm: `sha512-<base64>`; pip and apt: `sha256:<hex>`.
        integrity: String,
        /// Links under `bin/`, each with its target file inside the package.
        binaries: BTreeMap<String, String>,
    },
    /// Creates a folder.
    Directory {
        /// Its path.
        path: String,
        /// Permissions.
        mode: u32,
    },
    /// Writes a file.
    File {
        /// Its path.
        path: String,
        /// Its content.
        content: String,
        /// Permissions.
        mode: u32,
    },
    /// Downloads a file.
    Download {
        /// The URL.
        url: String,
        /// The destination.
        path: String,
        /// `sha256:<hex>`.
        checksum: String,
    },
    /// Unpacks an archive.
    Extract {
        /// The archive.
        archive: String,
        /// The destination.
        path: String,
        /// Leading path parts to drop.
        strip: u32,
    },
    /// Links a program under `bin/`.
    Binary {
        /// Its name under `bin/`.
        name: String,
        /// The file.
        source: String,
        /// Its version.
        version: String,
    },
    /// Writes a key. The agent requests the material when it executes the step, so that no command contains it.
    Key {
        /// The key's name in the profile.
        name: String,
        /// The destination.
        path: String,
        /// The encoding of the file.
        encoding: KeyEncoding,
    },
    /// Registers and starts a process.
    Process(RenderedProcess),
    /// Waits until a target answers.
    WaitFor {
        /// The target.
        target: WaitTarget,
        /// Pause between two polls.
        interval: Duration,
    },
}

/// One rendered process.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedProcess {
    /// Its name.
    pub name: String,
    /// The runtime adapter that runs it.
    pub adapter: Adapter,
    /// Program, relative to the node's folder, or absolute.
    pub command: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// What happens when it exits.
    pub restart: Restart,
    /// Time between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// The log files of its output.
    pub log: ProcessLog,
}

/// What a step waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitTarget {
    /// `host:port` that accepts a connection.
    Tcp(String),
    /// URL that answers with a 2xx.
    Http(String),
    /// Path that exists.
    Path(String),
}

/// The values that templates use for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateValues {
    /// Absolute path of the node's folder on its machine.
    pub root: String,
    /// The ports that the agent reserved, by their names in runtime.yaml.
    pub ports: BTreeMap<String, u16>,
    /// The values of the profile's inputs.
    pub inputs: BTreeMap<String, String>,
    /// The node: `.Node.id`.
    pub node_id: String,
    /// The provider: `.Node.provider`.
    pub provider: String,
    /// The region: `.Node.region`.
    pub region: String,
}
