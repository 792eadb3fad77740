//! How the CLI finds the host and its API key: from flags, then from the environment, then from the nearest state folder.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use host_wire::state_folder::{ADMIN_KEY, HOST_URL, STATE_FOLDER};
use secrecy::SecretString;
use url::Url;

use super::error::CliError;

/// Heading of these flags in every help text.
const HEADING: &str = "Global options";

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
pub struct GlobalArgs {
    /// URL of the host; default: the one in the nearest .bellwether folder
    #[arg(
        long,
        global = true,
        env = "BELLWETHER_HOST",
        value_name = "URL",
        help_heading = HEADING
    )]
    host: Option<Url>,
    /// File with the API key; default: the one in the nearest .bellwether folder
    #[arg(
        long,
        global = true,
        env = "BELLWETHER_KEY_FILE",
        value_name = "FILE",
        help_heading = HEADING
    )]
    key_file: Option<PathBuf>,
    /// Form of the output
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t = Output::Table,
        help_heading = HEADING
    )]
    pub(crate) output: Output,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables and sentences, for people
    Table,
    /// The JSON of the API, for programs
    Json,
}

/// A host and an API key for it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) host: Url,
    pub(crate) key: SecretString,
}

impl GlobalArgs {
    /// Finds the host and the key.
    pub(crate) fn connection(&self) -> Result<Connection, CliError> {
        let here = std::env::current_dir().context("the current directory can't be read")?;
        let state = find_state_folder(&here);
        let host = match (&self.host, &state) {
            (Some(host), _) => host.clone(),
            (None, Some(state)) => read_machine(&state.join(HOST_URL))?,
            (None, None) => return Err(not_found("host", "--host or BELLWETHER_HOST")),
        };
        let key_file = match (&self.key_file, &state) {
            (Some(file), _) => file.clone(),
            (None, Some(state)) => state.join(ADMIN_KEY),
            (None, None) => return Err(not_found("API key", "--key-file or BELLWETHER_KEY_FILE")),
        };
        let text = std::fs::read_to_string(&key_file)
            .with_context(|| format!("the key file {} can't be read", key_file.display()))?;
        Ok(Connection {
            host,
            key: SecretString::from(text.trim().to_owned()),
        })
    }
}

fn not_found(what: &str, how: &str) -> CliError {
    CliError::Usage(format!(
        "no {what} is given, and no {STATE_FOLDER} folder exists in the current directory or above it\n  Run the command in the folder where `bellwether dev` runs, or set {how}."
    ))
}

/// The nearest folder upwards into which a host has written its URL. The search ends at the root of a git work tree.
fn find_state_folder(here: &Path) -> Option<PathBuf> {
    for folder in here.ancestors() {
        let state = folder.join(STATE_FOLDER);
        if state.join(HOST_URL).is_file() {
            return Some(state);
        }
        if folder.join(".git").exists() {
            return None;
        }
    }
    None
}

fn read_machine(file: &Path) -> anyhow::Result<Url> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("the file {} can't be read", file.display()))?;
    let text = text.trim();
    Url::parse(text).with_context(|| format!("the file {} holds no URL: {text}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_state_folder_is_found_up_to_the_work_trees_root() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("repo/a/b");
        std::fs::create_dir_all(&deep).unwrap();
        let state = root.path().join(STATE_FOLDER);
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join(HOST_URL), "http://127.0.0.1:1").unwrap();
        assert_eq!(find_state_folder(&deep), Some(state));
        std::fs::create_dir(root.path().join("repo/.git")).unwrap();
        assert_eq!(find_state_folder(&deep), None);
    }
}
