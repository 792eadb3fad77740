//! Where the host is and which key it takes: flags, then environment, then the nearest `.bellwether` folder.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use secrecy::SecretString;
use url::Url;

use super::error::CliError;

/// Folder that `bellwether dev` keeps its state in.
const STATE_DIR: &str = ".bellwether";

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// URL of the host; found in the nearest .bellwether folder when absent.
    #[arg(
        long,
        global = true,
        env = "BELLWETHER_HOST",
        value_name = "URL",
        help_heading = "Connection"
    )]
    host: Option<Url>,
    /// File with the API key; found in the nearest .bellwether folder when absent.
    #[arg(
        long,
        global = true,
        env = "BELLWETHER_KEY_FILE",
        value_name = "FILE",
        help_heading = "Connection"
    )]
    key_file: Option<PathBuf>,
    /// For people or for programs.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs: the API's own JSON.
    Json,
}

/// A host and the key for it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) host: Url,
    pub(crate) key: SecretString,
}

impl Global {
    /// Finds host and key.
    pub(crate) fn connection(&self) -> Result<Connection, CliError> {
        let here = std::env::current_dir().context("the present folder can't be read")?;
        let state = find_state_dir(&here);
        let host = match (&self.host, &state) {
            (Some(host), _) => host.clone(),
            (None, Some(state)) => read_machine(&state.join("host"))?,
            (None, None) => return Err(nothing_here("host", "--host or BELLWETHER_HOST")),
        };
        let key_file = match (&self.key_file, &state) {
            (Some(file), _) => file.clone(),
            (None, Some(state)) => state.join("admin-key"),
            (None, None) => return Err(nothing_here("key", "--key-file or BELLWETHER_KEY_FILE")),
        };
        let read = std::fs::read_to_string(&key_file);
        let key =
            read.with_context(|| format!("the key file {} can't be read", key_file.display()))?;
        Ok(Connection {
            host,
            key: SecretString::from(key.trim().to_owned()),
        })
    }
}

fn nothing_here(what: &str, how: &str) -> CliError {
    CliError::NotFoundHere(format!(
        "no {what} is named, and there is no {STATE_DIR} folder here or above\n  Run in the folder where `bellwether dev` runs, or set {how}."
    ))
}

/// The nearest folder upwards that a host has written its address into; the search ends at the root of a git work tree.
fn find_state_dir(here: &Path) -> Option<PathBuf> {
    for folder in here.ancestors() {
        let state = folder.join(STATE_DIR);
        if state.join("host").is_file() {
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
    Url::parse(text.trim()).with_context(|| format!("{} holds no URL", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_state_folder_is_found_up_to_the_work_trees_root() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("repo/a/b");
        std::fs::create_dir_all(&deep).unwrap();
        let state = root.path().join(STATE_DIR);
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join("host"), "http://127.0.0.1:1").unwrap();
        assert_eq!(find_state_dir(&deep), Some(state));
        std::fs::create_dir(root.path().join("repo/.git")).unwrap();
        assert_eq!(find_state_dir(&deep), None);
    }
}
