//! A recipe's steps with every template filled in: what an agent is told to do, free of YAML and of protobuf.
//!
//! Paths are relative to the node's folder and stay within it; rendering has checked that.

use std::collections::BTreeMap;
use std::time::Duration;

use super::profile::KeyEncoding;
use super::recipe::{PackageManager, Retry};
use super::runtime::{Adapter, ProcessLog, Restart};

/// One step, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedStep {
    /// Its name within the recipe.
    pub name: String,
    /// The step is done when this path exists.
    pub creates: Option<String>,
    /// Time for one try.
    pub timeout: Duration,
    /// Tries.
    pub retry: Retry,
    /// What it does.
    pub action: RenderedAction,
}

/// What a rendered step does.
#[derive(Clone, Debug, PartialEq)]
pub enum RenderedAction {
    /// Installs a package into the node's folder.
    Package {
        /// Whose client installs it.
        manager: PackageManager,
        /// The package's name.
        name: String,
        /// Its exact version.
        version: String,
        /// npm: `sha512-<base64>`; pip and apt: `sha256:<hex>`.
        integrity: String,
        /// Names under `bin/`, and the file inside the package that each is a link to.
        binaries: BTreeMap<String, String>,
    },
    /// Makes a folder.
    Directory {
        /// Where.
        path: String,
        /// Permissions.
        mode: u32,
    },
    /// Writes a file.
    File {
        /// Where.
        path: String,
        /// What it holds.
        content: String,
        /// Permissions.
        mode: u32,
    },
    /// Fetches a file.
    Download {
        /// From where.
        url: String,
        /// To where.
        path: String,
        /// `sha256:<hex>`.
        checksum: String,
    },
    /// Unpacks an archive.
    Extract {
        /// The archive.
        archive: String,
        /// To where.
        path: String,
        /// Leading path parts to drop.
        strip: u32,
    },
    /// Puts a program under `bin/`.
    Binary {
        /// Its name under `bin/`.
        name: String,
        /// The file.
        source: String,
        /// Its version.
        version: String,
    },
    /// Writes a key; the agent asks for the material when it comes to it, so that no command holds it.
    Key {
        /// The key's name in the profile.
        name: String,
        /// To where.
        path: String,
        /// How the file holds it.
        encoding: KeyEncoding,
    },
    /// Registers and starts a process.
    Process(RenderedProcess),
    /// Waits until something answers.
    WaitFor {
        /// What answers.
        target: WaitTarget,
        /// Pause between two looks.
        interval: Duration,
    },
}

/// A process, ready to be started.
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
    /// What happens when it exits by itself.
    pub restart: Restart,
    /// Time between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// How its output is kept.
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

/// What templates see of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateValues {
    /// Absolute path of the node's folder on its machine.
    pub root: String,
    /// The ports that the machine gave, by their names in runtime.yaml.
    pub ports: BTreeMap<String, u16>,
    /// What a person gave for the profile's inputs.
    pub inputs: BTreeMap<String, String>,
    /// The node: `.Node.id`.
    pub node_id: String,
    /// The provider: `.Node.provider`.
    pub provider: String,
    /// The region: `.Node.region`.
    pub region: String,
}
