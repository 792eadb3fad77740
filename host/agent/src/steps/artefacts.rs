//! The cache of downloads that the nodes of this agent share, by digest.
//!
//! An entry is a folder with one file. The agent moves it into place after it verified the digest, and verifies the digest
//! again at each use, because disks corrupt files.
//!
//! The cache has a size limit: the agent deletes the least recently used entries first, and never an entry that a step
//! uses. A deleted entry costs one more download.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, FileTimes};
use std::future::Future;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use anyhow::Context as _;

use super::integrity::Integrity;
use crate::durable;

/// The suffix of an incomplete download.
const PART: &str = ".part";

/// The prefix of temporary folders, which a crash may leave.
const TEMPORARY: &str = ".fetch-";

/// The download cache.
pub(crate) struct Artefacts {
    dir: PathBuf,
    bytes_max: u64,
    in_use: InUse,
}

/// The entries in use, by digest. One step at a time fetches an entry, and no used entry is deleted.
#[derive(Clone, Default)]
struct InUse(Arc<Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>>);

/// A download that the cache keeps until this value is dropped.
pub(crate) struct Artefact {
    file: PathBuf,
    _in_use: Arc<tokio::sync::Mutex<()>>,
}

impl Deref for Artefact {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.file
    }
}

impl Artefacts {
    /// Opens the cache in `dir` with a limit of about `bytes_max`, and removes what a crash left.
    pub(crate) fn open(dir: PathBuf, bytes_max: u64) -> io::Result<Self> {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                remove(&entry.path())?;
            }
        }
        Ok(Self {
            dir,
            bytes_max,
            in_use: InUse::default(),
        })
    }

    /// Returns the file with this digest. If the cache lacks it, `fetch` downloads it into the given folder.
    pub(crate) async fn get<F: Future<Output = anyhow::Result<PathBuf>>>(
        &self,
        integrity: &Integrity,
        fetch: impl FnOnce(PathBuf) -> F,
    ) -> anyhow::Result<Artefact> {
        let key = integrity.key();
        let in_use = self.in_use.take(&key);
        let file = {
            let _turn = in_use.lock().await;
            match self.find(integrity, &key).await {
                Some(file) => file,
                None => self.add(integrity, &key, fetch).await?,
            }
        };
        self.limit_size().await;
        Ok(Artefact {
            file,
            _in_use: in_use,
        })
    }

    /// The path of an incomplete download of this digest.
    pub(crate) fn part(&self, integrity: &Integrity) -> PathBuf {
        self.dir.join(format!("{}{PART}", integrity.key()))
    }

    async fn find(&self, integrity: &Integrity, key: &str) -> Option<PathBuf> {
        let (entry, pinned) = (self.dir.join(key), integrity.clone());
        let found = durable::blocking(move || {
            let Some(file) = only_file(&entry) else {
                return Ok(None);
            };
            let checked = pinned.check(&file).map(|()| touch(&entry));
            Ok(Some(checked.map(|()| file)))
        });
        match found.await {
            Ok(found) => found?
                .inspect_err(|error| {
                    tracing::warn!(%error, key, "a cached download is damaged; the agent downloads it again");
                })
                .ok(),
            Err(error) => {
                tracing::warn!(%error, key, "the agent can't read a cached download and downloads it again");
                None
            }
        }
    }

    async fn add<F: Future<Output = anyhow::Result<PathBuf>>>(
        &self,
        integrity: &Integrity,
        key: &str,
        fetch: impl FnOnce(PathBuf) -> F,
    ) -> anyhow::Result<PathBuf> {
        let stage = durable::blocking({
            let dir = self.dir.clone();
            move || tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(dir)
        })
        .await?;
        let file = fetch(stage.path().to_owned()).await?;
        let (entry, integrity) = (self.dir.join(key), integrity.clone());
        let placed = tokio::task::spawn_blocking(move || {
            integrity.check(&file)?;
            let name = file.file_name().context("the download has no file name")?;
            let complete = stage.path().join("entry");
            fs::create_dir(&complete)?;
            fs::rename(&file, complete.join(name))?;
            remove(&entry)?;
            fs::rename(complete, &entry)?;
            Ok(entry.join(name))
        });
        placed
            .await
            .context("adding the download to the cache was interrupted")?
    }

    /// Deletes the least recently used entries until the rest fits.
    async fn limit_size(&self) {
        let (dir, bytes_max, in_use) = (self.dir.clone(), self.bytes_max, self.in_use.clone());
        let deleted = durable::blocking(move || delete_oldest(&dir, bytes_max, &in_use)).await;
        if let Err(error) = deleted {
            tracing::warn!(%error, "the agent can't delete old downloads; check the disk");
        }
    }
}

impl InUse {
    fn take(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, one| one.strong_count() > 0);
        if let Some(one) = all.get(key).and_then(Weak::upgrade) {
            return one;
        }
        let one = Arc::new(tokio::sync::Mutex::new(()));
        all.insert(key.to_owned(), Arc::downgrade(&one));
        one
    }

    /// Moves an unused entry out of the cache; returns `false` when a step uses it. The lock excludes new users meanwhile.
    fn take_out(&self, key: &str, entry: &Path, to: &Path) -> io::Result<bool> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(key).is_some_and(|one| one.strong_count() > 0) {
            return Ok(false);
        }
        fs::rename(entry, to).map(|()| true)
    }
}

/// Deletes the least recently used entries until the rest fits. Blocks.
fn delete_oldest(dir: &Path, bytes_max: u64, in_use: &InUse) -> io::Result<()> {
    let mut entries = Vec::new();
    let mut total = 0_u64;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let bytes = size(&path);
        total = total.saturating_add(bytes);
        if !name.to_string_lossy().starts_with('.') {
            let used = entry.metadata()?.modified();
            entries.push((used.unwrap_or(SystemTime::UNIX_EPOCH), path, bytes));
        }
    }
    entries.sort();
    let trash = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(dir)?;
    for (_, path, bytes) in entries {
        if total <= bytes_max {
            return Ok(());
        }
        let Some(name) = path.file_name().and_then(OsStr::to_str) else {
            continue;
        };
        let key = name.strip_suffix(PART).unwrap_or(name);
        if in_use.take_out(key, &path, &trash.path().join(name))? {
            tracing::info!(path = %path.display(), bytes, "the agent deleted the least recently used download");
            total = total.saturating_sub(bytes);
        }
    }
    Ok(())
}

/// The size of a file, or of the file in an entry.
fn size(path: &Path) -> u64 {
    let file = only_file(path).unwrap_or_else(|| path.to_owned());
    fs::metadata(file).map_or(0, |meta| meta.len())
}

/// Marks an entry as just used. A failure costs at most one download.
fn touch(entry: &Path) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the cache compares it with times of the file system"
    )]
    let now = FileTimes::new().set_modified(SystemTime::now());
    let _ = fs::File::open(entry).and_then(|entry| entry.set_times(now));
}

fn only_file(entry: &Path) -> Option<PathBuf> {
    fs::read_dir(entry)
        .ok()?
        .next()?
        .ok()
        .map(|file| file.path())
}

fn remove(entry: &Path) -> io::Result<()> {
    let removed = if entry.is_dir() {
        fs::remove_dir_all(entry)
    } else {
        fs::remove_file(entry)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(content: &[u8]) -> Integrity {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
        Integrity::parse(&format!("sha256:{}", hex::encode(digest))).unwrap()
    }

    /// Gets the content, and whether it had to be fetched.
    async fn get(artefacts: &Artefacts, content: &'static [u8]) -> (bool, Artefact) {
        let mut fetched = false;
        let pinned = pinned(content);
        let artefact = artefacts.get(&pinned, |folder| {
            fetched = true;
            async move {
                fs::write(folder.join("file"), content)?;
                Ok(folder.join("file"))
            }
        });
        let artefact = artefact.await.unwrap();
        assert_eq!(fs::read(&*artefact).unwrap(), content);
        (fetched, artefact)
    }

    fn age(artefacts: &Artefacts, content: &[u8], seconds: u64) {
        let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let entry = fs::File::open(artefacts.dir.join(pinned(content).key())).unwrap();
        entry
            .set_times(FileTimes::new().set_modified(then))
            .unwrap();
    }

    #[tokio::test]
    async fn a_full_folder_drops_what_was_not_used_for_the_longest_time() {
        let dir = tempfile::tempdir().unwrap();
        let artefacts = Artefacts::open(dir.path().to_owned(), 10).unwrap();
        for (content, seconds) in [(b"one.".as_slice(), 10), (b"two.", 20)] {
            drop(get(&artefacts, content).await);
            age(&artefacts, content, seconds);
        }
        assert!(!get(&artefacts, b"one.").await.0, "it fits");
        drop(get(&artefacts, b"three").await);
        assert!(
            !get(&artefacts, b"one.").await.0,
            "it was used most recently"
        );
        assert!(get(&artefacts, b"two.").await.0, "the unused one is gone");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn what_a_step_works_with_stays_however_large_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let artefacts = Artefacts::open(dir.path().to_owned(), 3).unwrap();
        let (_, used) = get(&artefacts, b"larger than the bound").await;
        age(&artefacts, b"larger than the bound", 10);
        fs::write(artefacts.part(&pinned(b"half")), "an interrupted download").unwrap();
        drop(get(&artefacts, b"two").await);
        assert!(used.exists() && !artefacts.part(&pinned(b"half")).exists());
        drop(used);
        drop(get(&artefacts, b"two").await);
        assert!(get(&artefacts, b"larger than the bound").await.0);
    }
}
