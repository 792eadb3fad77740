//! Where machines come from: one interface, and a kind of provider behind each name of the configuration.
//!
//! A provider knows machines and nothing of workflows or rows; activities call it in the order plan, create, bootstrap,
//! destroy. Each of these may be called again after any interruption, and `destroy` also when nothing was done before.

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

/// The provider that is always there, and the name of its machine.
pub const LOCAL: &str = "local";

/// The providers of this host.
pub struct MachineProviders {
    by_name: BTreeMap<String, MachineProvider>,
}

/// One provider, by its kind.
pub enum MachineProvider {
    /// The machine that an agent of this installation runs on.
    Local,
    /// Machines that there are already.
    Ssh(Ssh),
    /// Machines that OpenTofu or Terraform makes.
    Opentofu(Opentofu),
}

/// A machine that a node may get.
pub struct Candidate {
    /// Unique among all machines.
    pub name: String,
    /// Where it is, when that is known before it is made.
    pub address: Option<String>,
}

/// A node and the machine that it got.
pub struct NodeMachine {
    pub node: Node,
    pub record: Machine,
    /// What the operation keeps of the plan, once there is one.
    pub planned: Option<String>,
}

/// What a provider is going to do.
pub struct Plan {
    /// For people.
    pub text: String,
}

/// A machine that is there.
pub struct Created {
    /// Where it is.
    pub address: Option<String>,
    /// What the provider said meanwhile.
    pub output: String,
}

/// By which an agent joins.
pub struct Join {
    /// The one-time token.
    pub token: SecretString,
}

/// When a machine needs a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinAt {
    /// Never: its agent is started by somebody else.
    Never,
    /// When it is planned: its first start enrols it.
    Plan,
    /// When its agent is put on it.
    Bootstrap,
}

impl MachineProviders {
    /// Those of the configuration, and `local`.
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

    /// The provider of a name.
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
    /// The machines that a node may get, the best first. `beside` is the migration that wants a further one for it.
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

    /// Whether several nodes share a machine, whose agent is then nobody's to remove.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Local => true,
            Self::Ssh(_) | Self::Opentofu(_) => false,
        }
    }

    /// Whether a machine is made when it is wanted, so that there always is one.
    pub fn makes_machines(&self) -> bool {
        match self {
            Self::Local | Self::Ssh(_) => false,
            Self::Opentofu(_) => true,
        }
    }

    /// When a machine needs a token.
    pub fn join_at(&self) -> JoinAt {
        match self {
            Self::Local => JoinAt::Never,
            Self::Ssh(_) => JoinAt::Bootstrap,
            Self::Opentofu(_) => JoinAt::Plan,
        }
    }

    /// Says what `create` is going to do. Nothing is made, changed or paid for.
    pub async fn plan(
        &self,
        machine: &NodeMachine,
        join: Option<&Join>,
        ctx: &ActivityContext,
    ) -> Result<Plan, MachineProviderError> {
        match self {
            Self::Local => Ok(Plan {
                text: "Uses the machine of an agent that is there already. It costs nothing more."
                    .to_owned(),
            }),
            Self::Ssh(ssh) => ssh.plan(machine),
            Self::Opentofu(tofu) => tofu.plan(machine, join, ctx).await,
        }
    }

    /// Makes the machine, or finds it made.
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

    /// Puts an agent on the machine.
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

    /// Gives the machine back: nothing of ours is left on it or paid for.
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

/// Why a provider could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum MachineProviderError {
    /// Nobody declared it.
    #[error(
        "machine provider `{provider}` is not set up on this host; declare it under `machine_providers` or choose one of: {known}"
    )]
    NotSetUp { provider: String, known: String },
    /// Its machine was taken out of the configuration.
    #[error(
        "the machine `{machine}` is not declared any more; declare it again until nothing of ours is on it"
    )]
    Undeclared { machine: String },
    /// A file of this host.
    #[error("{path} can't be read; check the path and its owner")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// What should be the agent is something else.
    #[error("{path} is no program for x86_64 or aarch64; set `agent_binary` to the agent's")]
    NotAnAgent { path: PathBuf },
    /// The machine can't be reached now.
    #[error(
        "the machine `{machine}` was not reached, or the line was lost, at `{step}`; check that it runs and that its address is right"
    )]
    Away {
        machine: String,
        step: String,
        output: String,
    },
    /// The machine, or this side, refuses the connection whenever it is tried.
    #[error("the machine `{machine}` can't be used: {message}")]
    Refused {
        machine: String,
        message: String,
        output: String,
    },
    /// What ran failed.
    #[error("`{step}`: {message}")]
    Failed {
        step: String,
        message: String,
        output: String,
    },
    /// What ran failed, and may be tried again.
    #[error("`{step}`: {message}")]
    TryAgain {
        step: String,
        message: String,
        output: String,
    },
    /// What ran did not end.
    #[error(transparent)]
    Child(#[from] ChildError),
}

impl MachineProviderError {
    /// The error as a workflow sees it: its sources are in the text, and the program's words beside it.
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

/// A path that holds wherever a program works.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
