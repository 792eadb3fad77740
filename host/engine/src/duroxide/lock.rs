//! The lock that keeps a second host away from an engine file.
//!
//! Two hosts on one file would both run every workflow. The lock is the system's, so a killed host gives it back.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::StartError;

/// The held lock of an engine file; dropping it lets go.
pub struct EngineLock {
    engine: PathBuf,
    _file: File,
}

impl EngineLock {
    /// Takes the lock beside `engine`, or says who has it.
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
