//! The `machine_providers` section of the configuration: machine providers by the name that chain profiles use.
//!
//! Values that become part of a command line or of a script on another machine are limited to safe characters here, once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use host_domain::config::scalars::DurationText;
use host_domain::time::duration_text;
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_yaml::Value;

use host_domain::setting::SettingError;

/// Machine providers by the name that chain profiles use. `local` always exists.
pub type MachineProvidersConfig = BTreeMap<String, MachineProviderConfig>;

/// One machine provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MachineProviderConfig {
    /// Machines whose agent an operator installed, each for many nodes. The machine provider `local` always exists.
    Local,
    /// Existing machines that the host reaches by SSH. Each machine runs one node at a time.
    Ssh(SshConfig),
    /// Machines that OpenTofu or Terraform creates, one for each node.
    Opentofu(OpentofuConfig),
}

impl<'de> Deserialize<'de> for MachineProviderConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut settings = Value::deserialize(deserializer)?;
        let kind = settings.as_mapping_mut().and_then(|map| map.remove("kind"));
        match kind.as_ref().and_then(Value::as_str) {
            Some("local") => below::<Nothing, _>(settings).map(|_| Self::Local),
            Some("ssh") => below(settings).map(Self::Ssh),
            Some("opentofu") => below(settings).map(Self::Opentofu),
            Some(other) => Err(D::Error::custom(format!(
                "`kind` is `{other}`; choose `local`, `ssh` or `opentofu`"
            ))),
            None => Err(D::Error::custom(
                "`kind` is missing; choose `local`, `ssh` or `opentofu`",
            )),
        }
    }
}

/// A machine provider without settings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Reads the settings of one kind; an error names its key. (An enum with a tag would lose the path.)
fn below<T: DeserializeOwned, E: Error>(settings: Value) -> Result<T, E> {
    serde_path_to_error::deserialize(settings)
        .map_err(|error| E::custom(format!("at `{}`: {}", error.path(), error.inner())))
}

/// Existing machines that the host reaches by SSH. Each machine runs one node at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SshConfig {
    /// Address of this host's gateway, as agents on these machines reach it.
    #[schemars(example = "https://bellwether.example:9090")]
    pub gateway: String,
    /// Path of the agent's program for these machines; the `bellwether-agent` beside the host's program when absent.
    #[serde(default)]
    pub agent_binary: Option<PathBuf>,
    /// The machines, most preferred first.
    pub machines: Vec<SshMachine>,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SshMachine {
    /// Name of the machine; unique in this machine provider.
    #[schemars(example = "rack-1")]
    pub name: String,
    /// Host name or IP address to connect to.
    #[schemars(example = "192.0.2.7")]
    pub address: String,
    /// Port of the SSH server.
    #[serde(default = "ssh_port")]
    pub port: u16,
    /// User that the host logs in as and the agent runs as.
    #[serde(default = "root")]
    pub user: String,
    /// File with the user's private SSH key, without a passphrase.
    #[schemars(example = "/etc/bellwether/id_ed25519")]
    pub key_file: PathBuf,
    /// Public host key of the machine, from its `/etc/ssh/ssh_host_ed25519_key.pub`. The host connects to no machine with another key.
    #[schemars(example = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5")]
    pub known_host: String,
    /// Region of the machine, as chain profiles name it.
    #[serde(default = "default_region")]
    pub region: String,
    /// Folder on the machine for the agent alone. The host creates it and deletes it with the node.
    #[serde(default = "agent_dir")]
    pub dir: String,
}

/// Machines that OpenTofu or Terraform creates, one for each node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpentofuConfig {
    /// Address of this host's gateway, as agents on these machines reach it.
    #[schemars(example = "https://bellwether.example:9090")]
    pub gateway: String,
    /// Name or path of the program: `tofu` or `terraform`.
    #[serde(default = "tofu")]
    pub binary: PathBuf,
    /// Folder of the module. The host copies it for each node when it creates the node.
    #[schemars(example = "deploy/tofu/hetzner")]
    pub module: PathBuf,
    /// Further variables of the module; not for secrets.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Environment variables of the program, such as `HCLOUD_TOKEN`, each with the path of the file that holds the value.
    #[serde(default)]
    pub secrets: BTreeMap<String, PathBuf>,
    /// Longest time to create or destroy a machine; at most `10m`.
    #[serde(default = "apply_limit", with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub apply_limit: Duration,
    /// S3 bucket for the program's state, with a lock; a folder in `state_dir` when absent.
    #[serde(default)]
    pub s3: Option<S3State>,
}

/// S3 bucket for the program's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3State {
    /// Name of the bucket.
    #[schemars(example = "bellwether-state")]
    pub bucket: String,
    /// Region of the bucket.
    #[schemars(example = "eu-central-1")]
    pub region: String,
    /// First part of the name of each state, such as `bellwether/`.
    #[serde(default)]
    pub prefix: String,
    /// Address of the service; AWS when absent.
    #[serde(default)]
    pub endpoint: Option<String>,
}

fn tofu() -> PathBuf {
    PathBuf::from("tofu")
}

fn apply_limit() -> Duration {
    APPLY_LIMIT_MAX
}

/// An attempt to create a machine takes at most 15 minutes, and the apply is only one part of it.
const APPLY_LIMIT_MAX: Duration = Duration::from_mins(10);

fn ssh_port() -> u16 {
    22
}

fn root() -> String {
    "root".to_owned()
}

fn default_region() -> String {
    "default".to_owned()
}

fn agent_dir() -> String {
    "/var/lib/bellwether-agent".to_owned()
}

/// Checks what the types can't express.
pub fn check(providers: &MachineProvidersConfig) -> Result<(), SettingError> {
    for (name, provider) in providers {
        let place = format!("machine_providers.{name}");
        demand(is_name(name), &place, NAME_RULE)?;
        match provider {
            MachineProviderConfig::Local => {}
            MachineProviderConfig::Ssh(ssh) => check_ssh(ssh, &place)?,
            MachineProviderConfig::Opentofu(tofu) => check_opentofu(tofu, &place)?,
        }
    }
    Ok(())
}

const NAME_RULE: &str = "must have 1 to 63 lowercase letters, digits and inner dashes";

fn check_ssh(ssh: &SshConfig, place: &str) -> Result<(), SettingError> {
    check_gateway(&ssh.gateway, &format!("{place}.gateway"))?;
    demand(
        !ssh.machines.is_empty(),
        &format!("{place}.machines"),
        "is empty; list the machines",
    )?;
    let mut names = BTreeSet::new();
    for (at, host) in ssh.machines.iter().enumerate() {
        let key = |field: &str| format!("{place}.machines[{at}].{field}");
        demand(is_name(&host.name), &key("name"), NAME_RULE)?;
        demand(names.insert(&host.name), &key("name"), "occurs twice")?;
        demand(
            is_word(&host.address, ".:-%"),
            &key("address"),
            "must be a host name or an IP address",
        )?;
        demand(
            is_word(&host.user, "._-"),
            &key("user"),
            "must be a user name",
        )?;
        demand(
            is_public_key(&host.known_host),
            &key("known_host"),
            "must be a key type and a key in base64, such as `ssh-ed25519 AAAA…`; take it from the machine's /etc/ssh/ssh_host_*_key.pub",
        )?;
        demand(
            is_folder(&host.dir),
            &key("dir"),
            "must be an absolute path of letters, digits and `.`, `_`, `-`, at least two directories deep",
        )?;
    }
    Ok(())
}

fn check_opentofu(tofu: &OpentofuConfig, place: &str) -> Result<(), SettingError> {
    check_gateway(&tofu.gateway, &format!("{place}.gateway"))?;
    for name in tofu.variables.keys() {
        let key = format!("{place}.variables.{name}");
        demand(is_word(name, "_-"), &key, "must be a variable name")?;
        demand(
            !OWN_VARIABLES.contains(&name.as_str()),
            &key,
            "is reserved: this host sets it for each machine",
        )?;
    }
    for name in tofu.secrets.keys() {
        let key = format!("{place}.secrets.{name}");
        demand(
            is_word(name, "_"),
            &key,
            "must be an environment variable name",
        )?;
    }
    demand(
        tofu.apply_limit <= APPLY_LIMIT_MAX,
        &format!("{place}.apply_limit"),
        "must be at most 10m",
    )
}

/// Variables that the host sets for every module.
const OWN_VARIABLES: &[&str] = &[
    "name",
    "region",
    "instance_type",
    "gateway",
    "ca_pem",
    "token",
];

fn check_gateway(gateway: &str, key: &str) -> Result<(), SettingError> {
    let is_fine = gateway
        .strip_prefix("https://")
        .is_some_and(|rest| is_word(rest, ".:-[]"));
    demand(
        is_fine,
        key,
        "must be the gateway's address for agents, such as `https://bellwether.example:9090`",
    )
}

fn demand(is_fine: bool, key: &str, rule: &str) -> Result<(), SettingError> {
    if is_fine {
        return Ok(());
    }
    Err(SettingError::new(key, rule))
}

fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Letters, digits and `others`, without a leading dash: no program reads such a word as an option, and no shell
/// expands it.
fn is_word(text: &str, others: &str) -> bool {
    (1..=255).contains(&text.len())
        && !text.starts_with('-')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

fn is_public_key(text: &str) -> bool {
    let mut words = text.split(' ');
    let (Some(kind), Some(key)) = (words.next(), words.next()) else {
        return false;
    };
    is_word(kind, "-@.") && key.starts_with("AAAA") && is_word(key, "+/=") && words.count() <= 1
}

fn is_folder(text: &str) -> bool {
    let path = Path::new(text);
    path.is_absolute()
        && path.components().count() >= 3
        && !text.ends_with('/')
        && !text.contains("//")
        && text.split('/').all(|part| part != "." && part != "..")
        && is_word(text, "/._-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Config {
        machine_providers: MachineProvidersConfig,
    }

    const GOOD: &str = "
machine_providers:
  here: {kind: local}
  racks:
    kind: ssh
    gateway: https://bellwether.example:9090
    machines:
      - name: one
        address: 192.0.2.7
        key_file: /etc/bellwether/id
        known_host: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5
";

    const TOFU: &str = "
machine_providers:
  cloud:
    kind: opentofu
    gateway: https://bellwether.example:9090
    module: deploy/tofu/hetzner
    variables: {image: debian-12}
    secrets: {HCLOUD_TOKEN: /etc/bellwether/hcloud-token}
";

    #[test]
    fn engines_are_read_with_their_defaults_and_mistakes_named() {
        let config = read(TOFU).unwrap();
        let super::MachineProviderConfig::Opentofu(tofu) = &config.machine_providers["cloud"]
        else {
            panic!("{config:?}")
        };
        assert_eq!(tofu.binary, std::path::Path::new("tofu"));
        assert_eq!(tofu.apply_limit.as_secs(), 600);
        for (from, to, expected) in [
            ("module: deploy/tofu/hetzner", "modul: x", "modul"),
            (
                "image:",
                "token:",
                "machine_providers.cloud.variables.token",
            ),
            ("image:", "'a b':", "machine_providers.cloud.variables.a b"),
            (
                "HCLOUD_TOKEN",
                "'LD PRELOAD'",
                "machine_providers.cloud.secrets.LD PRELOAD",
            ),
            (
                "module:",
                "apply_limit: 1h\n    module:",
                "machine_providers.cloud.apply_limit",
            ),
            ("module:", "s3: {bucket: b}\n    module:", "s3"),
        ] {
            assert!(TOFU.contains(from), "{from}");
            let error = read(&TOFU.replace(from, to)).unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }

    fn read(yaml: &str) -> Result<Config, String> {
        let tree: Value = serde_yaml::from_str(yaml).unwrap();
        let config: Config =
            serde_path_to_error::deserialize(tree).map_err(|error| error.to_string())?;
        check(&config.machine_providers).map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn machines_are_read_with_their_defaults() {
        let config = read(GOOD).unwrap();
        let super::MachineProviderConfig::Ssh(ssh) = &config.machine_providers["racks"] else {
            panic!("{config:?}")
        };
        let one = &ssh.machines[0];
        assert_eq!((one.port, one.user.as_str()), (22, "root"));
        assert_eq!(one.dir, "/var/lib/bellwether-agent");
        assert_eq!(
            config.machine_providers["here"],
            super::MachineProviderConfig::Local
        );
    }

    #[test]
    fn every_mistake_names_its_key() {
        for (from, to, expected) in [
            ("kind: ssh", "kind: rsh", "machine_providers.racks"),
            ("kind: ssh", "kind: ssh\n    hots: 1", "hots"),
            (
                "kind: local",
                "kind: local, dir: /x",
                "machine_providers.here",
            ),
            ("address: 192.0.2.7", "adress: x", "machines[0]"),
            (
                "192.0.2.7",
                "-oProxyCommand=x",
                "machine_providers.racks.machines[0].address",
            ),
            (
                "192.0.2.7",
                "'a b'",
                "machine_providers.racks.machines[0].address",
            ),
            (
                "name: one",
                "name: One",
                "machine_providers.racks.machines[0].name",
            ),
            (
                "ssh-ed25519 AAAA",
                "AAAA",
                "machine_providers.racks.machines[0].known_host",
            ),
            ("https://", "http://", "machine_providers.racks.gateway"),
            (
                "key_file:",
                "dir: /\n        key_file:",
                "machine_providers.racks.machines[0].dir",
            ),
            (
                "key_file:",
                "dir: /a/../b\n        key_file:",
                "machine_providers.racks.machines[0].dir",
            ),
            (
                "key_file:",
                "dir: '/a/$(b)'\n        key_file:",
                "machine_providers.racks.machines[0].dir",
            ),
            (
                "key_file:",
                "user: 'a;b'\n        key_file:",
                "machine_providers.racks.machines[0].user",
            ),
            ("        key_file: /etc/bellwether/id\n", "", "key_file"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = read(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
        }
        let host = GOOD.split("    machines:\n").nth(1).unwrap();
        let error = read(&format!("{GOOD}{host}")).unwrap_err();
        assert!(error.contains("machines[1].name"), "{error}");
    }
}
