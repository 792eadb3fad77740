//! Installs the agent on existing machines by SSH, and removes it.
//!
//! The system's `ssh` gets every setting by options: it ignores the user's SSH configuration, trusts only the
//! declared host key, tries only the declared key, and never prompts. Scripts go through standard input, so that no
//! secret appears in a process list. Every step may be repeated.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host_domain::ids::MachineId;
use host_workflows::ActivityContext;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::child::{self, Input, Program, ProgramExit};
use super::{Candidate, Created, Join, MachineProviderError, NodeMachine, Plan};
use crate::config::{SshConfig, SshMachine};

const COMMON: &str = include_str!("ssh/common.sh");
const CHECK: &str = include_str!("ssh/check.sh");
const CLAIM: &str = include_str!("ssh/claim.sh");
const START: &str = include_str!("ssh/start.sh");
const REMOVE: &str = include_str!("ssh/remove.sh");

/// The time limit of a script, which waits for processes to exit.
const SCRIPT_MAX: Duration = Duration::from_mins(3);
/// The time limit for uploading the agent over a slow line.
const UPLOAD_MAX: Duration = Duration::from_mins(8);
/// The exit status of `ssh` when it could not connect or lost the connection.
const NO_LINE: i32 = 255;
/// Messages of `ssh` about errors that no retry can fix.
const FINAL_WORDS: &[(&str, &str)] = &[
    (
        "Host key verification failed",
        "the machine's host key differs from `known_host`; compare it with the key on the machine before you change the setting",
    ),
    (
        "Permission denied",
        "the machine refused the user or the key; check `user` and `key_file`",
    ),
];

/// A machine provider of kind `ssh`.
pub struct Ssh {
    pub(super) config: SshConfig,
    /// PEM file with the certificate authority that agents trust.
    pub(super) ca_file: PathBuf,
}

impl Ssh {
    /// The machines of a region, in order of preference.
    pub(super) fn candidates(&self, provider: &str, region: &str) -> Vec<Candidate> {
        let machines = self.config.machines.iter();
        machines
            .filter(|declared| declared.region == region)
            .map(|declared| Candidate {
                name: machine_name(provider, &declared.name),
                address: Some(declared.address.clone()),
            })
            .collect()
    }

    /// The plan that the operation shows.
    pub(super) fn plan(&self, machine: &NodeMachine) -> Result<Plan, MachineProviderError> {
        let declared = self.declared(machine)?;
        let SshMachine {
            name,
            address,
            port,
            user,
            dir,
            ..
        } = declared;
        Ok(Plan {
            text: format!(
                "Installs an agent on the machine {name} ({user}@{address}, port {port}) in the directory {dir}. This adds no cost."
            ),
        })
    }

    /// Checks that the machine is reachable and suitable, without changing it.
    pub(super) async fn create(
        &self,
        machine: &NodeMachine,
        ctx: &ActivityContext,
    ) -> Result<Created, MachineProviderError> {
        let declared = self.declared(machine)?;
        let agent = self.agent_binary()?;
        let settings = format!("machine={}\n", machine_of(&agent)?);
        let script = script(declared, machine.record.id, &settings, CHECK);
        let ended = self
            .run(declared, "check", "exec sh -s", Input::Text(script), ctx)
            .await?;
        Ok(Created {
            address: Some(declared.address.clone()),
            output: ended.answered(),
        })
    }

    /// Uploads the agent with its join token and starts it.
    pub(super) async fn bootstrap(
        &self,
        machine: &NodeMachine,
        join: &Join,
        ctx: &ActivityContext,
    ) -> Result<String, MachineProviderError> {
        let declared = self.declared(machine)?;
        let agent = self.agent_binary()?;
        let digest = digest_of(&agent).await?;
        let ca = std::fs::read_to_string(&self.ca_file)
            .map_err(|source| unreadable(&self.ca_file, source))?;

        let claim = script(declared, machine.record.id, "", CLAIM);
        self.run(declared, "claim", "exec sh -s", Input::Text(claim), ctx)
            .await?;

        let program = File::open(&agent).map_err(|source| unreadable(&agent, source))?;
        // Without `exec`: when a signal ends the program, `ssh` would report a lost connection.
        let upload = format!("cat >{}/bin/bellwether-agent || exit 1", declared.dir);
        self.run(declared, "upload", &upload, Input::File(program), ctx)
            .await?;

        let settings = format!(
            "digest={digest}\ngateway={}\nname={}\nca={}\ntoken={}\n",
            quoted(&self.config.gateway),
            quoted(&machine.record.name),
            quoted(ca.trim()),
            quoted(join.token.expose_secret()),
        );
        let start = script(declared, machine.record.id, &settings, START);
        let ended = self
            .run(declared, "start", "exec sh -s", Input::Text(start), ctx)
            .await?;
        Ok(ended.answered())
    }

    /// Stops the agent and removes its directory.
    pub(super) async fn destroy(
        &self,
        machine: &NodeMachine,
        ctx: &ActivityContext,
    ) -> Result<String, MachineProviderError> {
        let declared = self.declared(machine)?;
        let remove = script(declared, machine.record.id, "", REMOVE);
        let ended = self
            .run(declared, "remove", "exec sh -s", Input::Text(remove), ctx)
            .await?;
        Ok(ended.answered())
    }

    fn declared(&self, machine: &NodeMachine) -> Result<&SshMachine, MachineProviderError> {
        let provider = &machine.node.placement.provider;
        let machines = self.config.machines.iter();
        machines
            .into_iter()
            .find(|declared| machine_name(provider, &declared.name) == machine.record.name)
            .ok_or_else(|| MachineProviderError::Undeclared {
                machine: machine.record.name.clone(),
            })
    }

    fn agent_binary(&self) -> Result<PathBuf, MachineProviderError> {
        if let Some(path) = &self.config.agent_binary {
            return Ok(path.clone());
        }
        let this = std::env::current_exe().map_err(|source| unreadable(Path::new("."), source))?;
        Ok(this.with_file_name("bellwether-agent"))
    }

    /// Runs a command on the machine.
    async fn run(
        &self,
        declared: &SshMachine,
        step: &'static str,
        command: &str,
        input: Input,
        ctx: &ActivityContext,
    ) -> Result<ProgramExit, MachineProviderError> {
        let known =
            known_hosts(declared).map_err(|source| unreadable(Path::new("known_hosts"), source))?;
        let name = format!("ssh {} ({step})", declared.name);
        let mut program = Program::new(&name, "ssh", options(declared, known.path()));
        program
            .args
            .extend(["--".into(), declared.address.clone().into(), command.into()]);
        program.limit = match input {
            Input::File(_) => UPLOAD_MAX,
            Input::Nothing | Input::Text(_) => SCRIPT_MAX,
        };
        program.input = input;
        let ended = child::run(program, ctx).await?;
        match ended.status.code() {
            Some(0) => Ok(ended),
            Some(NO_LINE) => Err(no_line(declared, step, ended.said)),
            _ => Err(MachineProviderError::Failed {
                step: name,
                message: "a command on the machine failed; see its output".to_owned(),
                output: ended.said,
            }),
        }
    }
}

fn machine_name(provider: &str, declared: &str) -> String {
    format!("{provider}/{declared}")
}

fn unreadable(path: &Path, source: std::io::Error) -> MachineProviderError {
    MachineProviderError::File {
        path: path.to_owned(),
        source,
    }
}

/// The error when `ssh` could not run the command.
fn no_line(declared: &SshMachine, step: &str, output: String) -> MachineProviderError {
    let name = &declared.name;
    let refused = FINAL_WORDS.iter().find(|(words, _)| output.contains(words));
    match refused {
        Some((_, what)) => MachineProviderError::Refused {
            machine: name.clone(),
            message: (*what).to_owned(),
            output,
        },
        None => MachineProviderError::Away {
            machine: name.clone(),
            step: step.to_owned(),
            output,
        },
    }
}

/// The only trusted key, under an alias instead of an address, so that the key stays valid when the address changes.
fn known_hosts(declared: &SshMachine) -> std::io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    let key: Vec<&str> = declared.known_host.split(' ').take(2).collect();
    writeln!(file, "{} {}", alias(declared), key.join(" "))?;
    file.flush()?;
    Ok(file)
}

fn alias(declared: &SshMachine) -> String {
    format!("bellwether-{}", declared.name)
}

/// All options of `ssh`; it reads no configuration file.
fn options(declared: &SshMachine, known_hosts: &Path) -> Vec<String> {
    let mut options: Vec<String> = [
        "-F",
        "none",
        "-T",
        "-p",
        &declared.port.to_string(),
        "-l",
        &declared.user,
    ]
    .map(str::to_owned)
    .into();
    for option in [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
        "UpdateHostKeys=no",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "PreferredAuthentications=publickey",
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "ControlMaster=no",
        "ControlPath=none",
        "ConnectTimeout=15",
        "ConnectionAttempts=1",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
        "LogLevel=ERROR",
        &format!("UserKnownHostsFile={}", known_hosts.display()),
        &format!("HostKeyAlias={}", alias(declared)),
        &format!("IdentityFile={}", declared.key_file.display()),
    ] {
        options.push("-o".to_owned());
        options.push(option.to_owned());
    }
    options
}

/// A script after its settings. Values are quoted although the configuration allows only safe characters.
fn script(declared: &SshMachine, owner: MachineId, settings: &str, body: &str) -> SecretString {
    let owner = owner.to_string();
    // The last group of a UUID v7 is random.
    let unit = format!("bellwether-agent-{}.service", &owner[owner.len() - 12..]);
    SecretString::from(format!(
        "dir={}\nowner={owner}\nunit={unit}\n{settings}{COMMON}\n{body}",
        quoted(&declared.dir)
    ))
}

/// Quotes a text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The digest of a file, computed without blocking the async runtime.
async fn digest_of(path: &Path) -> Result<String, MachineProviderError> {
    let read = path.to_owned();
    let digest = tokio::task::spawn_blocking(move || {
        let bytes = std::fs::read(read)?;
        Ok(hex::encode(Sha256::digest(bytes)))
    });
    let digest = digest.await;
    digest
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|source| unreadable(path, source))
}

/// The `uname -m` value of the machines that can run a program, read from the program's ELF header.
fn machine_of(program: &Path) -> Result<&'static str, MachineProviderError> {
    use std::io::Read as _;
    let mut header = [0; 20];
    let read = File::open(program).and_then(|mut file| file.read_exact(&mut header));
    read.map_err(|source| unreadable(program, source))?;
    match (&header[..4], header[18]) {
        (b"\x7fELF", 0x3e) => Ok("x86_64"),
        (b"\x7fELF", 0xb7) => Ok("aarch64"),
        _ => Err(MachineProviderError::NotAnAgent {
            path: program.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_quoted_is_one_word() {
        let nasty = "a'b \"$(touch x)\" `y` \\ \n z";
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("printf %s {}", quoted(nasty))])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), nasty);
    }

    #[test]
    fn a_program_says_where_it_runs() {
        let this = std::env::current_exe().unwrap();
        assert_eq!(machine_of(&this).unwrap(), std::env::consts::ARCH);
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text");
        std::fs::write(&text, "#!/bin/sh\necho I am no agent\n").unwrap();
        assert!(matches!(
            machine_of(&text),
            Err(MachineProviderError::NotAnAgent { .. })
        ));
    }
}
