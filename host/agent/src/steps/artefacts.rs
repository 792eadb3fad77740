//! Downloads that the nodes of this agent share, kept by their digest.
//!
//! An entry is a folder with one file, moved into place when the file was checked; it is checked again at each
//! use, because what lies on a disk for months may not be what was put there.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Context as _;

use super::integrity::Integrity;

/// The shared downloads.
pub(crate) struct Artefacts {
    dir: PathBuf,
    /// One fetch at a time per digest; entries die with their users.
    fetching: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Artefacts {
    /// Kept in `dir`. What fetches of an earlier agent left half-done is removed.
    pub(crate) fn open(dir: PathBuf) -> std::io::Result<Self> {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(".fetch-") {
                remove(&entry.path())?;
            }
        }
        Ok(Self {
            dir,
            fetching: Mutex::default(),
        })
    }

    /// The file with this digest; `fetch` brings it into the folder that it is given when it is not here yet.
    pub(crate) async fn get<F: Future<Output = anyhow::Result<PathBuf>>>(
        &self,
        integrity: &Integrity,
        fetch: impl FnOnce(PathBuf) -> F,
    ) -> anyhow::Result<PathBuf> {
        let key = integrity.key();
        let turn = self.turn(&key);
        let _turn = turn.lock().await;
        let entry = self.dir.join(&key);
        if let Some(file) = only_file(&entry) {
            match check(integrity, &file).await {
                Ok(()) => return Ok(file),
                Err(error) => {
                    tracing::warn!(%error, key, "a kept download is damaged and fetched again");
                }
            }
        }
        remove(&entry)?;
        let stage = tempfile::Builder::new()
            .prefix(".fetch-")
            .tempdir_in(&self.dir)?;
        let fetched = fetch(stage.path().to_owned()).await?;
        check(integrity, &fetched).await?;
        let name = fetched
            .file_name()
            .context("the download has no name")?
            .to_owned();
        std::fs::create_dir(stage.path().join("entry"))?;
        std::fs::rename(&fetched, stage.path().join("entry").join(&name))?;
        std::fs::rename(stage.path().join("entry"), &entry)?;
        Ok(entry.join(name))
    }

    /// Where a download of this digest is collected until it is whole.
    pub(crate) fn part(&self, integrity: &Integrity) -> PathBuf {
        self.dir.join(format!("{}.part", integrity.key()))
    }

    fn turn(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        fetching.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = fetching.get(key).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        fetching.insert(key.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

async fn check(integrity: &Integrity, file: &Path) -> anyhow::Result<()> {
    let (integrity, file) = (integrity.clone(), file.to_owned());
    tokio::task::spawn_blocking(move || integrity.check(&file))
        .await
        .context("the check broke off")?
}

fn only_file(entry: &Path) -> Option<PathBuf> {
    std::fs::read_dir(entry)
        .ok()?
        .next()?
        .ok()
        .map(|file| file.path())
}

fn remove(entry: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(entry) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
