//! Servers that all tests of a run share. The setup scripts of nextest start them; each test takes a place of its own.

use std::path::{Path, PathBuf};

/// A place on a shared server that no other test has: an account or a namespace.
pub(crate) struct Place {
    pub(crate) port: u16,
    pub(crate) name: String,
}

/// Takes a place on the server whose folder a variable names; `None` where there is no such server or no place is free.
pub(crate) fn take(variable: &str) -> Option<Place> {
    let folder = PathBuf::from(std::env::var_os(variable)?);
    let port = std::fs::read_to_string(folder.join("port")).unwrap();
    let name = std::fs::read_dir(folder.join("free"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .find(|name| is_mine(&folder, name))?;
    Some(Place {
        port: port.parse().unwrap(),
        name,
    })
}

/// Moving a file succeeds for one of several tests.
fn is_mine(folder: &Path, name: &str) -> bool {
    let (free, taken) = (folder.join("free"), folder.join("taken"));
    std::fs::rename(free.join(name), taken.join(name)).is_ok()
}
