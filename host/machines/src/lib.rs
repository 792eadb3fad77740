//! Machine providers: one interface to local machines, machines reached by SSH, and machines that OpenTofu or
//! Terraform creates.
//!
//! Entry points: [`MachineProviders`] finds a provider by its configured name; activities call
//! [`MachineProvider::plan`], `create`, `bootstrap` and `destroy` in this order.
//!
//! Invariant: each of these may be repeated after any interruption, and `destroy` works even when nothing was
//! created. Providers know nothing of workflows or the database.

pub mod child;
mod config;
mod opentofu;
mod ssh;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use host_domain::agent::Machine;
use host_domain::ids::OperationId;
use host_domain::node::Node;
use host_workflows::{ActivityContext, ActivityError};
use secrecy::SecretString;

pub use self::config::{
    MachineProviderConfig, MachineProvidersConfig, OpentofuConfig, S3State, SshConfig, SshMachine,
    check,
};

use self::child::ChildError;
use self::opentofu::Opentofu;
use self::ssh::Ssh;

/// The provider that always exists, and the name of its machine.
pub const LOCAL: &str = "local";

/// The providers of this host.
pub struct MachineProviders {
    by_name: BTreeMap<String, MachineProvider>,
}

/// One provider, by its kind.
pub enum MachineProvider {
    /// The machine of an agent that is already enrolled.
    Local,
    /// Existing machines that the host reaches by SSH.
    Ssh(Ssh),
    /// Machines that OpenTofu or Terraform creates.
    Opentofu(Opentofu),
}

/// A machine that a node may be placed on.
pub struct Candidate {
    /// Unique among all machines.
    pub name: String,
    /// Its address, when that is known before the machine is created.
    pub address: Option<String>,
}

/// A node and the machine that it was placed on.
pub struct NodeMachine {
    pub node: Node,
    pub record: Machine,
    /// The plan that the operation keeps, once there is one.
    pub planned: Option<String>,
}

/// What `create` will do.
pub struct Plan {
    /// The text for people.
    pub text: String,
}

/// A machine that exists.
pub struct Created {
    /// Its address.
    pub address: Option<String>,
    /// What the provider printed.
    pub output: String,
}

/// What an agent needs to join the host.
pub struct Join {
    /// The one-time token.
    pub token: SecretString,
}

/// When a machine needs a join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinAt {
    /// Never: somebody else starts its agent.
    Never,
    /// At the plan: the machine's first boot enrols its agent.
    Plan,
    /// When the host installs the agent.
    Bootstrap,
}

impl MachineProviders {
    /// The configured providers, and `local`.
    pub fn new(config: &MachineProvidersConfig, state_dir: &Path) -> Self {
        let ca_file = state_dir.join("ca").join("ca.pem");
        let mut by_name = BTreeMap::from([(LOCAL.to_owned(), MachineProvider::Local)]);
        for (name, provider) in config {
            let provider = match provider.clone() {
                MachineProviderConfig::Local => MachineProvider::Local,
                MachineProviderConfig::Ssh(config) => MachineProvider::Ssh(Ssh {
                    config,
                    ca_file: ca_file.clone(),
                }),
                MachineProviderConfig::Opentofu(config) => MachineProvider::Opentofu(Opentofu {
                    config: OpentofuConfig {
                        module: absolute(&config.module),
                        ..config
                    },
                    ca_file: ca_file.clone(),
                    folder: absolute(&state_dir.join("machines")),
                }),
            };
            by_name.insert(name.clone(), provider);
        }
        Self { by_name }
    }

    /// Finds a provider by its name.
    pub fn get(&self, name: &str) -> Result<&MachineProvider, MachineProviderError> {
        self.by_name.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            MachineProviderError::NotSetUp {
                provider: name.to_owned(),
                known: known.join(", "),
            }
        })
    }
}

impl MachineProvider {
    /// The machines that a node may be placed on, best first. `beside` is the node migration that needs a second
    /// machine for the node.
    pub fn candidates(&self, node: &Node, beside: Option<OperationId>) -> Vec<Candidate> {
        let placement = &node.placement;
        match self {
            Self::Local => vec![Candidate {
                name: LOCAL.to_owned(),
                address: None,
            }],
            Self::Ssh(ssh) => ssh.candidates(&placement.provider, &placement.region),
            Self::Opentofu(_) => vec![Opentofu::candidate(node, beside)],
        }
    }

    /// Whether several nodes share a machine, so that no node may remove its agent.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Local => true,
            Self::Ssh(_) | Self::Opentofu(_) => false,
        }
    }

    /// Whether the provider creates machines on demand.
    pub fn makes_machines(&self) -> bool {
        match self {
            Self::Local | Self::Ssh(_) => false,
            Self::Opentofu(_) => true,
        }
    }

    /// When a machine needs a join token.
    pub fn join_at(&self) -> JoinAt {
        match self {
            Self::Local => JoinAt::Never,
            Self::Ssh(_) => JoinAt::Bootstrap,
            Self::Opentofu(_) => JoinAt::Plan,
        }
    }

    /// Says what `create` will do, without creating, changing or paying for anything.
    pub async fn plan(
        &self,
        machine: &NodeMachine,
        join: Option<&Join>,
        ctx: &ActivityContext,
    ) -> Result<Plan, MachineProviderError> {
        match self {
            Self::Local => Ok(Plan {
                text: "Uses a machine whose agent is already enrolled. This adds no cost."
                    .to_owned(),
            }),
            Self::Ssh(ssh) => ssh.plan(machine),
            Self::Opentofu(tofu) => tofu.plan(machine, join, ctx).await,
        }
    }

    /// Creates the machine, unless it exists.
    pub async fn create(
        &self,
        machine: &NodeMachine,
        ctx: &ActivityContext,
    ) -> Result<Created, MachineProviderError> {
        match self {
            Self::Local => Ok(Created {
                address: machine.record.ip.clone(),
                output: String::new(),
            }),
            Self::Ssh(ssh) => ssh.create(machine, ctx).await,
            Self::Opentofu(tofu) => tofu.create(machine, ctx).await,
        }
    }

    /// Installs an agent on the machine.
    pub async fn bootstrap(
        &self,
        machine: &NodeMachine,
        join: &Join,
        ctx: &ActivityContext,
    ) -> Result<String, MachineProviderError> {
        match self {
            Self::Local | Self::Opentofu(_) => Ok(String::new()),
            Self::Ssh(ssh) => ssh.bootstrap(machine, join, ctx).await,
        }
    }

    /// Releases the machine: nothing of Bellwether is left on it and nothing is paid for.
    pub async fn destroy(
        &self,
        machine: &NodeMachine,
        ctx: &ActivityContext,
    ) -> Result<String, MachineProviderError> {
        match self {
            Self::Local => Ok(String::new()),
            Self::Ssh(ssh) => ssh.destroy(machine, ctx).await,
            Self::Opentofu(tofu) => tofu.destroy(machine, ctx).await,
        }
    }
}

/// Why a machine provider could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum MachineProviderError {
    /// The configuration has no such provider.
    #[error(
        "machine provider `{provider}` is not configured on this host; declare it under `machine_providers` or choose one of: {known}"
    )]
    NotSetUp { provider: String, known: String },
    /// The machine was removed from the configuration.
    #[error(
        "the machine `{machine}` is no longer declared; declare it again until its nodes are terminated"
    )]
    Undeclared { machine: String },
    /// A file of this host is unreadable.
    #[error("the host can't read {path}; check the path and its owner")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The agent's binary is another kind of file.
    #[error(
        "{path} is not a program for x86_64 or aarch64; set `agent_binary` to the path of the agent"
    )]
    NotAnAgent { path: PathBuf },
    /// The machine is unreachable now.
    #[error(
        "the host could not reach the machine `{machine}` or lost the connection in step `{step}`; check that the machine runs and that `address` is right"
    )]
    Away {
        machine: String,
        step: String,
        output: String,
    },
    /// The machine or this host refuses every connection.
    #[error("the machine `{machine}` is not usable: {message}")]
    Refused {
        machine: String,
        message: String,
        output: String,
    },
    /// A command failed for good.
    #[error("`{step}`: {message}")]
    Failed {
        step: String,
        message: String,
        output: String,
    },
    /// A command failed and may be retried.
    #[error("`{step}`: {message}")]
    TryAgain {
        step: String,
        message: String,
        output: String,
    },
    /// A program did not exit by itself.
    #[error(transparent)]
    Child(#[from] ChildError),
}

impl MachineProviderError {
    /// The error for a workflow: the text includes all causes, followed by the program's output.
    pub fn for_workflow(&self) -> ActivityError {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        match self {
            Self::NotSetUp { .. } => ActivityError::permanent("provider_not_set_up", text),
            Self::Undeclared { .. } => ActivityError::permanent("machine_not_declared", text),
            Self::File { .. } | Self::NotAnAgent { .. } => {
                ActivityError::permanent("provider_file", text)
            }
            Self::Away { output, .. } => {
                ActivityError::retryable("machine_away", text).with_output(output)
            }
            Self::Refused { output, .. } => {
                ActivityError::permanent("machine_refused", text).with_output(output)
            }
            Self::TryAgain { output, .. } => {
                ActivityError::retryable("provider_failed", text).with_output(output)
            }
            Self::Failed { output, .. } => {
                ActivityError::permanent("provider_failed", text).with_output(output)
            }
            Self::Child(
                error @ (ChildError::Start { .. }
                | ChildError::Output { .. }
                | ChildError::Wait { .. }
                | ChildError::TooMuch { .. }),
            ) => ActivityError::permanent("provider_failed", text).with_output(error.said()),
            Self::Child(error @ ChildError::TooLong { .. }) => {
                ActivityError::retryable("provider_timed_out", text).with_output(error.said())
            }
            Self::Child(error @ ChildError::Cancelled { .. }) => {
                ActivityError::retryable("cancelled", text).with_output(error.said())
            }
        }
    }
}

/// Makes a path absolute, so that it is valid in every working directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
