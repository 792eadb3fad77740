//! Compiled plugins that hosts and agents of several tests share: compiling takes seconds of a core for each of them.
//!
//! A cache is filled before its owner starts, and what the owner compiled is kept when its test ends. The names of the files
//! contain the component's digest and the engine's version, so a stale file is never taken.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Where the plugin host keeps compiled components in the folder that it is given.
const IN_CACHE: &str = "compiled";

fn pool() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-plugins")
}

/// Fills a cache with what was compiled before of the components in a folder.
pub(crate) fn lend(components: &Path, cache: &Path) {
    let wanted = digests(components);
    let cache = cache.join(IN_CACHE);
    for file in files(&pool()) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if wanted.iter().any(|digest| name.starts_with(digest)) {
            private_folder(&cache);
            fs::copy(&file, cache.join(name)).unwrap();
        }
    }
}

/// Keeps what the owner of a cache has compiled.
pub(crate) fn keep(cache: &Path) {
    let pool = pool();
    for file in files(&cache.join(IN_CACHE)) {
        let kept = pool.join(file.file_name().unwrap());
        if kept.exists() {
            continue;
        }
        private_folder(&pool);
        // Tests that end at the same time each move a whole file to its place.
        let fresh = pool.join(format!("{}.new", uuid::Uuid::now_v7()));
        if fs::copy(&file, &fresh).is_ok() {
            fs::rename(fresh, kept).unwrap();
        }
    }
}

/// Compiled files and their digests.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let is_one = |path: &PathBuf| {
        let extension = path.extension();
        extension.is_some_and(|extension| extension == "cwasm" || extension == "digest")
    };
    let mut files: Vec<PathBuf> = paths.filter(is_one).collect();
    // Digests come before what they describe, as the plugin host writes them.
    files.sort_by_key(|path| path.extension().map(|extension| extension != "digest"));
    files
}

fn digests(components: &Path) -> Vec<String> {
    let entries = fs::read_dir(components).into_iter().flatten().flatten();
    let bytes = entries.filter_map(|entry| fs::read(entry.path()).ok());
    bytes
        .map(|bytes| hex::encode(Sha256::digest(bytes)))
        .collect()
}

fn private_folder(folder: &Path) {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder).unwrap();
}
