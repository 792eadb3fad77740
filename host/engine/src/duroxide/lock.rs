//! The lock that prevents a second host from opening the same engine file.
//!
//! Two hosts on one file would both run every workflow. The operating system holds the lock, so it releases it when a
//! host is killed.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::StartError;

/// The lock of an engine file, held until it is dropped.
pub struct EngineLock {
    engine: PathBuf,
    _file: File,
}

impl EngineLock {
    /// Takes the lock beside `engine`; the error names the lock file when another host holds it.
    pub fn take(engine: &Path) -> Result<Self, StartError> {
        let mut name = engine.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let opened = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = opened.map_err(|error| StartError::File {
            path: path.clone(),
            source: error.into(),
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                engine: engine.to_owned(),
                _file: file,
            }),
            Err(TryLockError::WouldBlock) => Err(StartError::Held { path }),
            Err(TryLockError::Error(error)) => Err(StartError::File {
                path,
                source: error.into(),
            }),
        }
    }

    /// The engine file.
    pub(super) fn engine(&self) -> &Path {
        &self.engine
    }
}
