//! Keys and certificates on disk: writes are atomic, and only the owner can read a key.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::CaError;

pub(super) fn make_folder(folder: &Path) -> Result<(), CaError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| CaError::File {
            path: folder.to_owned(),
            source,
        })
}

pub(super) fn read_secret(path: &Path) -> Result<Option<String>, CaError> {
    let file = |source| CaError::File {
        path: path.to_owned(),
        source,
    };
    match fs::metadata(path) {
        Ok(facts) if facts.permissions().mode() & 0o077 != 0 => Err(CaError::Exposed {
            path: path.to_owned(),
        }),
        Ok(_) => read_optional(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file(error)),
    }
}

pub(super) fn read_optional(path: &Path) -> Result<Option<String>, CaError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CaError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

pub(super) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CaError> {
    let new = path.with_extension("new");
    let write = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|source| CaError::File {
        path: path.to_owned(),
        source,
    })
}
