//! The versions of the configuration folder that worked: kept by the host, so that a wrong folder does not keep it from
//! starting, and so that agents fetch the components that are in use, whatever is copied over them meanwhile.
//!
//! A version is a copy of what was read, in a folder named by its digest, which appears by one rename when it was read
//! back and found equal. Components are kept once, by their digest, and linked into the versions that use them.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use host_domain::config::ValidateOptions;

use super::folder::Folder;
use super::{ChainFolder, load_dir};

/// Versions that are kept (design: chain-configs.md, Distribution).
const VERSIONS_KEPT: usize = 10;
/// Names the version that was switched to last.
const POINTER: &str = "last-good";

/// The versions that worked. Everything here blocks.
#[derive(Clone, Debug)]
pub(crate) struct LastGood {
    dir: PathBuf,
}

impl LastGood {
    /// Kept below the host's state folder.
    pub(crate) fn of(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join("chains"),
        }
    }

    /// Where the version lies that was switched to last, if there ever was one.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        let name = fs::read_to_string(self.dir.join(POINTER)).ok()?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let folder = self.version(&name);
        (is_name && folder.is_dir()).then_some(folder)
    }

    /// Keeps a folder that was switched to, and returns where.
    pub(crate) fn keep(
        &self,
        folder: &ChainFolder,
        options: ValidateOptions,
    ) -> io::Result<PathBuf> {
        let name = folder.version.trim_start_matches("sha256:");
        let kept = self.version(name);
        fs::create_dir_all(self.dir.join("versions"))?;
        fs::create_dir_all(self.dir.join("components"))?;
        if kept.is_dir() {
            // It is used again: the newest of all.
            fs::File::open(&kept)?.set_modified(newest())?;
        } else {
            let stage = tempfile::Builder::new()
                .prefix(".stage-")
                .tempdir_in(&self.dir)?;
            self.copy(folder, stage.path())?;
            let copied = load_dir(stage.path(), options).map_err(io::Error::other)?;
            if copied.version != folder.version {
                return Err(io::Error::other("the folder changed while it was copied"));
            }
            fs::rename(stage.path(), &kept)?;
            // The name is gone, so that there is nothing to remove.
            let _ = stage.close();
        }
        self.point_to(name)?;
        self.prune()?;
        Ok(kept)
    }

    fn version(&self, name: &str) -> PathBuf {
        self.dir.join("versions").join(name)
    }

    fn copy(&self, folder: &ChainFolder, to: &Path) -> io::Result<()> {
        let place = |path: &str| -> io::Result<PathBuf> {
            let place = to.join(path);
            fs::create_dir_all(place.parent().unwrap_or(to))?;
            Ok(place)
        };
        let (files, _) = Folder::open(&folder.root)?.config_files()?;
        for file in files {
            fs::write(place(&file.path)?, file.content)?;
        }
        for (path, digest) in &folder.components {
            let kept = self.component(&folder.root.join(path), digest)?;
            fs::hard_link(kept, place(path)?)?;
        }
        Ok(())
    }

    /// The kept copy of a component, made when there is none.
    fn component(&self, from: &Path, digest: &str) -> io::Result<PathBuf> {
        let name = digest.trim_start_matches("sha256:");
        let kept = self.dir.join("components").join(format!("{name}.wasm"));
        if !kept.exists() {
            let content = fs::read(from)?;
            if hex::encode(Sha256::digest(&content)) != name {
                return Err(io::Error::other("a component changed while it was copied"));
            }
            let mut copy = tempfile::NamedTempFile::new_in(&self.dir)?;
            copy.write_all(&content)?;
            copy.as_file().sync_all()?;
            copy.persist(&kept)?;
        }
        Ok(kept)
    }

    fn point_to(&self, name: &str) -> io::Result<()> {
        let mut pointer = tempfile::NamedTempFile::new_in(&self.dir)?;
        pointer.write_all(name.as_bytes())?;
        pointer.as_file().sync_all()?;
        pointer.persist(self.dir.join(POINTER))?;
        fs::File::open(&self.dir)?.sync_all()
    }

    /// Forgets the oldest versions, and the components that no version links.
    fn prune(&self) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt as _;
        let mut versions = Vec::new();
        for entry in fs::read_dir(self.dir.join("versions"))? {
            let entry = entry?;
            versions.push((entry.metadata()?.modified()?, entry.path()));
        }
        versions.sort();
        let surplus = versions.len().saturating_sub(VERSIONS_KEPT);
        for (_, path) in versions.into_iter().take(surplus) {
            fs::remove_dir_all(path)?;
        }
        for entry in fs::read_dir(self.dir.join("components"))? {
            let entry = entry?;
            if entry.metadata()?.nlink() == 1 {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "it is compared with the times that the file system gives"
)]
fn newest() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{folder, put};
    use super::*;

    const DEV: ValidateOptions = ValidateOptions { dev: true };

    #[test]
    fn the_last_version_that_worked_is_kept_whole() {
        let (dir, state) = (folder(), tempfile::tempdir().unwrap());
        let last_good = LastGood::of(state.path());
        assert_eq!(last_good.folder(), None);
        let first = load_dir(dir.path(), DEV).unwrap();
        let kept = last_good.keep(&first, DEV).unwrap();

        fs::remove_dir_all(dir.path().join("components")).unwrap();
        put(dir.path(), "chains/toy/runtime.yaml", "no: [yaml");
        assert!(load_dir(dir.path(), DEV).is_err());
        assert_eq!(LastGood::of(state.path()).folder(), Some(kept.clone()));
        let again = load_dir(&kept, DEV).unwrap();
        assert_eq!((again.version, again.set), (first.version, first.set));
    }

    #[test]
    fn a_component_that_is_written_over_in_place_stays_as_it_was() {
        let (dir, state) = (folder(), tempfile::tempdir().unwrap());
        let first = load_dir(dir.path(), DEV).unwrap();
        let kept = LastGood::of(state.path()).keep(&first, DEV).unwrap();
        put(dir.path(), "components/see.wasm", "half a comp");
        let content = fs::read_to_string(kept.join("components/see.wasm")).unwrap();
        assert_eq!(content, "first");
    }

    #[test]
    fn a_folder_that_changes_while_it_is_copied_is_not_kept() {
        let (dir, state) = (folder(), tempfile::tempdir().unwrap());
        let last_good = LastGood::of(state.path());
        let read = load_dir(dir.path(), DEV).unwrap();
        put(dir.path(), "components/see.wasm", "second");
        assert!(last_good.keep(&read, DEV).is_err());
        assert_eq!(last_good.folder(), None);
    }

    #[test]
    fn ten_versions_stay_and_what_only_others_used_goes() {
        let (dir, state) = (folder(), tempfile::tempdir().unwrap());
        let last_good = LastGood::of(state.path());
        for number in 0..VERSIONS_KEPT + 3 {
            put(
                dir.path(),
                "components/see.wasm",
                &format!("number {number}"),
            );
            let read = load_dir(dir.path(), DEV).unwrap();
            let kept = last_good.keep(&read, DEV).unwrap();
            assert_eq!(last_good.folder(), Some(kept.clone()));
            let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
            fs::File::open(kept).unwrap().set_modified(then).unwrap();
        }
        for folder in ["versions", "components"] {
            let kept = fs::read_dir(state.path().join("chains").join(folder)).unwrap();
            assert_eq!(kept.count(), VERSIONS_KEPT, "{folder}");
        }
    }
}
