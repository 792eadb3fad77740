//! Tests that cached files are reused unless they are damaged, and that no other user has access.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Cache, Digest};
use crate::compile::CompileMode;
use crate::engine::compiler;

fn open(dir: &Path, mode: CompileMode) -> Cache {
    Cache::open(dir, mode, "engine".into()).unwrap()
}

/// A compiler that always fails, so that whatever loads came from the disk.
fn no_compiler() -> CompileMode {
    CompileMode::Child {
        exe: "/bin/false".into(),
        args: vec![],
    }
}

async fn compiled_file(dir: &Path, component: &[u8]) -> PathBuf {
    let engine = compiler().unwrap();
    let cache = open(dir, CompileMode::InProcess);
    cache
        .component(&engine, Digest::of(component), component)
        .await
        .unwrap();
    cache.path(Digest::of(component))
}

#[tokio::test]
async fn a_restart_finds_what_was_compiled() {
    let dir = tempfile::tempdir().unwrap();
    let component = wat::parse_str("(component)").unwrap();
    compiled_file(dir.path(), &component).await;
    let cache = open(dir.path(), no_compiler());
    let engine = compiler().unwrap();
    assert!(
        cache
            .component(&engine, Digest::of(&component), &component)
            .await
            .is_ok()
    );
    let other = wat::parse_str("(component (core module))").unwrap();
    let refused = cache.component(&engine, Digest::of(&other), &other).await;
    assert_eq!(refused.err().unwrap().code(), "plugin_compile");
}

#[tokio::test]
async fn a_damaged_file_is_compiled_again() {
    let dir = tempfile::tempdir().unwrap();
    let component = wat::parse_str("(component)").unwrap();
    let path = compiled_file(dir.path(), &component).await;
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&path, damaged).unwrap();
    let engine = compiler().unwrap();
    let refused = open(dir.path(), no_compiler());
    assert!(
        refused
            .component(&engine, Digest::of(&component), &component)
            .await
            .is_err()
    );
    let mended = open(dir.path(), CompileMode::InProcess);
    assert!(
        mended
            .component(&engine, Digest::of(&component), &component)
            .await
            .is_ok()
    );
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn only_this_user_enters_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("compiled")).unwrap();
    fs::set_permissions(
        dir.path().join("compiled"),
        fs::Permissions::from_mode(0o777),
    )
    .unwrap();
    let cache = open(dir.path(), CompileMode::InProcess);
    assert_eq!(
        fs::metadata(&cache.dir).unwrap().permissions().mode() & 0o777,
        0o700
    );

    let elsewhere = tempfile::tempdir().unwrap();
    let linked = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), linked.path().join("compiled")).unwrap();
    let refused = Cache::open(linked.path(), CompileMode::InProcess, "engine".into());
    assert!(
        refused.is_err(),
        "a link may point to another user's folder"
    );
}
