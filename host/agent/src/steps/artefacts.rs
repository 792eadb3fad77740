//! Downloads that the nodes of this agent share, kept by their digest.
//!
//! An entry is a folder with one file, moved into place when the file was checked; it is checked again at each
//! use, because what lies on a disk for months may not be what was put there.
//!
//! The folder is bounded: what was not used for the longest time goes first, and never what a step is working with.
//! Losing an entry costs one more download.

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

/// How the name of a download ends that is not whole yet.
const PART: &str = ".part";

/// How the name of a folder begins that nobody needs after a crash.
const PASSING: &str = ".fetch-";

/// The shared downloads.
pub(crate) struct Artefacts {
    dir: PathBuf,
    bytes_max: u64,
    in_use: InUse,
}

/// What is fetched or used, by digest: one user at a time, and nothing of it is dropped. Entries die with their users.
#[derive(Clone, Default)]
struct InUse(Arc<Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>>);

/// A download that stays as long as this is held.
pub(crate) struct Kept {
    file: PathBuf,
    _in_use: Arc<tokio::sync::Mutex<()>>,
}

impl Deref for Kept {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.file
    }
}

impl Artefacts {
    /// Kept in `dir`, which holds about `bytes_max`. What fetches of an earlier agent left half-done is removed.
    pub(crate) fn open(dir: PathBuf, bytes_max: u64) -> io::Result<Self> {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PASSING) {
                remove(&entry.path())?;
            }
        }
        Ok(Self {
            dir,
            bytes_max,
            in_use: InUse::default(),
        })
    }

    /// The file with this digest; `fetch` brings it into the folder that it is given when it is not here yet.
    pub(crate) async fn get<F: Future<Output = anyhow::Result<PathBuf>>>(
        &self,
        integrity: &Integrity,
        fetch: impl FnOnce(PathBuf) -> F,
    ) -> anyhow::Result<Kept> {
        let key = integrity.key();
        let in_use = self.in_use.take(&key);
        let file = {
            let _turn = in_use.lock().await;
            match self.find(integrity, &key).await {
                Some(file) => file,
                None => self.bring(integrity, &key, fetch).await?,
            }
        };
        self.bound().await;
        Ok(Kept {
            file,
            _in_use: in_use,
        })
    }

    /// Where a download of this digest is collected until it is whole.
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
                    tracing::warn!(%error, key, "a kept download is damaged and fetched again");
                })
                .ok(),
            Err(error) => {
                tracing::warn!(%error, key, "a kept download can't be read and is fetched again");
                None
            }
        }
    }

    async fn bring<F: Future<Output = anyhow::Result<PathBuf>>>(
        &self,
        integrity: &Integrity,
        key: &str,
        fetch: impl FnOnce(PathBuf) -> F,
    ) -> anyhow::Result<PathBuf> {
        let stage = durable::blocking({
            let dir = self.dir.clone();
            move || tempfile::Builder::new().prefix(PASSING).tempdir_in(dir)
        })
        .await?;
        let fetched = fetch(stage.path().to_owned()).await?;
        let (entry, integrity) = (self.dir.join(key), integrity.clone());
        let placed = tokio::task::spawn_blocking(move || {
            integrity.check(&fetched)?;
            let name = fetched.file_name().context("the download has no name")?;
            let whole = stage.path().join("entry");
            fs::create_dir(&whole)?;
            fs::rename(&fetched, whole.join(name))?;
            remove(&entry)?;
            fs::rename(whole, &entry)?;
            Ok(entry.join(name))
        });
        placed.await.context("placing the download broke off")?
    }

    /// Drops what was not used for the longest time, until the rest fits.
    async fn bound(&self) {
        let (dir, bytes_max, in_use) = (self.dir.clone(), self.bytes_max, self.in_use.clone());
        let dropped = durable::blocking(move || drop_oldest(&dir, bytes_max, &in_use)).await;
        if let Err(error) = dropped {
            tracing::warn!(%error, "old downloads can't be removed");
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

    /// Moves what nobody uses out of everybody's reach; `false` when somebody does. Nobody can begin to use it meanwhile.
    fn put_aside(&self, key: &str, entry: &Path, aside: &Path) -> io::Result<bool> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(key).is_some_and(|one| one.strong_count() > 0) {
            return Ok(false);
        }
        fs::rename(entry, aside).map(|()| true)
    }
}

/// Blocks.
fn drop_oldest(dir: &Path, bytes_max: u64, in_use: &InUse) -> io::Result<()> {
    let mut kept = Vec::new();
    let mut total = 0_u64;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let bytes = size(&path);
        total = total.saturating_add(bytes);
        if !name.to_string_lossy().starts_with('.') {
            let used = entry.metadata()?.modified();
            kept.push((used.unwrap_or(SystemTime::UNIX_EPOCH), path, bytes));
        }
    }
    kept.sort();
    let aside = tempfile::Builder::new().prefix(PASSING).tempdir_in(dir)?;
    for (_, path, bytes) in kept {
        if total <= bytes_max {
            return Ok(());
        }
        let Some(name) = path.file_name().and_then(OsStr::to_str) else {
            continue;
        };
        let key = name.strip_suffix(PART).unwrap_or(name);
        if in_use.put_aside(key, &path, &aside.path().join(name))? {
            tracing::info!(path = %path.display(), bytes, "a download that nobody used for long is dropped");
            total = total.saturating_sub(bytes);
        }
    }
    Ok(())
}

/// Bytes of a file, or of the file in an entry.
fn size(path: &Path) -> u64 {
    let file = only_file(path).unwrap_or_else(|| path.to_owned());
    fs::metadata(file).map_or(0, |meta| meta.len())
}

/// Marks an entry as used now. Failing costs at most a download.
fn touch(entry: &Path) {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is compared with the times that the file system gives"
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

    /// Whether it had to be fetched.
    async fn get(artefacts: &Artefacts, content: &'static [u8]) -> (bool, Kept) {
        let mut fetched = false;
        let pinned = pinned(content);
        let kept = artefacts.get(&pinned, |folder| {
            fetched = true;
            async move {
                fs::write(folder.join("file"), content)?;
                Ok(folder.join("file"))
            }
        });
        let kept = kept.await.unwrap();
        assert_eq!(fs::read(&*kept).unwrap(), content);
        (fetched, kept)
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
        assert!(!get(&artefacts, b"one.").await.0, "it fits and is kept");
        drop(get(&artefacts, b"three").await);
        assert!(!get(&artefacts, b"one.").await.0, "it was used last");
        assert!(
            get(&artefacts, b"two.").await.0,
            "the one that nobody used is gone"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn what_a_step_works_with_stays_however_large_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let artefacts = Artefacts::open(dir.path().to_owned(), 3).unwrap();
        let (_, used) = get(&artefacts, b"larger than the bound").await;
        age(&artefacts, b"larger than the bound", 10);
        fs::write(artefacts.part(&pinned(b"half")), "a broken download").unwrap();
        drop(get(&artefacts, b"two").await);
        assert!(used.exists() && !artefacts.part(&pinned(b"half")).exists());
        drop(used);
        drop(get(&artefacts, b"two").await);
        assert!(get(&artefacts, b"larger than the bound").await.0);
    }
}
