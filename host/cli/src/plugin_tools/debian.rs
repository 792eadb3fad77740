//! Installs a compiler for plugins from Debian's `rustc-web` packages into a folder, without root.
//!
//! The packages have a compiler with the WebAssembly back end, but no std for the bare target: the installed cargo builds it
//! once from their sources. They have no linker either: the installed toolchain has one.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tokio::time::timeout;

use super::process::{cargo_home, clean_cargo, output, succeeds};
use super::toolchain::{GuestToolchain, TARGET, has_target, sysroot_of};

const PROBE_LIMIT: Duration = Duration::from_mins(1);
const DOWNLOAD_LIMIT: Duration = Duration::from_mins(15);
const UNPACK_LIMIT: Duration = Duration::from_mins(5);
const BUILD_LIMIT: Duration = Duration::from_mins(30);
const LOCK_LIMIT: Duration = Duration::from_hours(1);
const LOCK_POLL: Duration = Duration::from_millis(500);

/// The packages that are always needed. Apt lists their dependencies.
const PACKAGES: [&str; 3] = ["rustc-web", "libstd-rust-web-dev", "rust-web-src"];

/// The package with the sources. It is large, and only the sources of the library are needed.
const SOURCES: &str = "rust-web-src";

/// File that is written last: a folder without it is incomplete.
const COMPLETE: &str = "complete";

/// Prefix of the names of incomplete folders.
const INCOMPLETE: &str = ".incomplete-";

/// The newest compiler that an earlier run installed.
pub(super) async fn find(cache: &Path) -> Result<Option<GuestToolchain>> {
    let Ok(entries) = fs::read_dir(cache) else {
        return Ok(None);
    };
    let folders = entries.filter_map(Result::ok).map(|entry| entry.path());
    let Some(newest) = folders
        .filter(|folder| folder.join(COMPLETE).is_file())
        .max()
    else {
        return Ok(None);
    };
    Ok(Some(toolchain(&newest).await?))
}

/// Whether Debian's tools are installed.
pub(super) async fn is_available() -> bool {
    succeeds(Command::new("apt-get").arg("--version"), PROBE_LIMIT).await
        && succeeds(Command::new("dpkg-deb").arg("--version"), PROBE_LIMIT).await
}

/// Installs the compiler, or returns the one that another process installed while this one waited for it.
pub(super) async fn install(cache: &Path) -> Result<GuestToolchain> {
    fs::create_dir_all(cache)
        .with_context(|| format!("the cache folder {} can't be created", cache.display()))?;
    let _lock = lock(&cache.join("lock")).await?;
    remove_abandoned(cache)?;
    let version = candidate().await?;
    let folder = cache.join(folder_name(&version));
    if !folder.join(COMPLETE).is_file() {
        let incomplete = tempfile::Builder::new()
            .prefix(INCOMPLETE)
            .tempdir_in(cache)?;
        fill(incomplete.path(), &version).await?;
        fs::write(incomplete.path().join(COMPLETE), &version)?;
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::rename(incomplete.keep(), &folder)?;
        eprintln!("guest toolchain: ready in {}", folder.display());
    }
    toolchain(&folder).await
}

/// Removes the folders of killed runs. No other process is installing, because this one holds the lock.
fn remove_abandoned(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(INCOMPLETE) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The name of a version's folder. Library paths can't contain the colon of an epoch.
fn folder_name(version: &str) -> String {
    version.replace(':', "_")
}

/// Waits for the lock. It is released with the file, also when the process dies.
async fn lock(path: &Path) -> Result<File> {
    let file = File::create(path)?;
    let wait = async {
        let mut is_reported = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if !std::mem::replace(&mut is_reported, true) {
                eprintln!("guest toolchain: waiting for another process that installs it");
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
    };
    match timeout(LOCK_LIMIT, wait).await {
        Ok(locked) => locked.with_context(|| format!("{} can't be locked", path.display()))?,
        Err(_) => bail!(
            "another process has held the lock {} for an hour; end that process and retry",
            path.display()
        ),
    }
    Ok(file)
}

/// The version that apt would install. A fresh installation has no package lists yet.
async fn candidate() -> Result<String> {
    if let Some(version) = available_version().await? {
        return Ok(version);
    }
    eprintln!(
        "guest toolchain: apt has no package {}; running apt-get update",
        PACKAGES[0]
    );
    output(
        Command::new("apt-get").args(["update", "-qq"]),
        DOWNLOAD_LIMIT,
    )
    .await
    .context("the package lists can't be updated; run `apt-get update` as root")?;
    let available = available_version().await?;
    available.with_context(|| {
        format!(
            "apt has no package {}; Debian 12 and later have it",
            PACKAGES[0]
        )
    })
}

async fn available_version() -> Result<Option<String>> {
    let mut command = Command::new("apt-cache");
    let policy = output(
        command.args(["policy", PACKAGES[0]]).env("LC_ALL", "C"),
        PROBE_LIMIT,
    )
    .await?;
    Ok(candidate_of(&policy))
}

/// The version of the candidate in the output of `apt-cache policy`.
fn candidate_of(policy: &str) -> Option<String> {
    let version = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// Downloads and unpacks the packages into `folder`, and builds std into it.
async fn fill(folder: &Path, version: &str) -> Result<()> {
    let (debs, root) = (folder.join("deb"), folder.join("root"));
    fs::create_dir_all(&debs)?;
    fs::create_dir_all(&root)?;
    eprintln!(
        "guest toolchain: downloading {} {version} and its dependencies (about 140 MB)",
        PACKAGES[0]
    );
    let mut download = Command::new("apt-get");
    download
        .arg("download")
        .args(PACKAGES)
        .args(libraries().await?)
        .current_dir(&debs);
    output(&mut download, DOWNLOAD_LIMIT)
        .await
        .context("the packages can't be downloaded")?;
    eprintln!("guest toolchain: unpacking");
    for deb in fs::read_dir(&debs)? {
        unpack(&deb?.path(), &root).await?;
    }
    fs::remove_dir_all(&debs)?;
    eprintln!("guest toolchain: building std for {TARGET}");
    build_std(&folder.join("seed"), &root)
        .await
        .context("std can't be built")?;
    ensure!(
        has_target(&mut rustc(&root)).await,
        "the compiler in {} has no std after the build",
        root.display()
    );
    Ok(())
}

/// The packages of the compiler's own libraries, whose names contain the version.
async fn libraries() -> Result<Vec<String>> {
    let mut command = Command::new("apt-cache");
    let only_depends = [
        "recommends",
        "suggests",
        "conflicts",
        "breaks",
        "replaces",
        "enhances",
    ];
    command
        .args(["depends", "--recurse"])
        .args(only_depends.map(|kind| format!("--no-{kind}")));
    let listed = output(command.args(&PACKAGES[..2]).env("LC_ALL", "C"), PROBE_LIMIT).await?;
    Ok(libraries_of(&listed))
}

/// Lines that are names such as `libstd-rust-web-1.96` or `libllvm22`, without repeats.
fn libraries_of(listed: &str) -> Vec<String> {
    let is_version = |rest: &str| {
        rest.starts_with(|c: char| c.is_ascii_digit())
            && rest.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    let mut names: Vec<String> = listed
        .lines()
        .filter(|line| {
            ["libstd-rust-web-", "libllvm"]
                .iter()
                .any(|p| line.strip_prefix(p).is_some_and(is_version))
        })
        .map(ToOwned::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

async fn unpack(deb: &Path, root: &Path) -> Result<()> {
    let name = deb.file_name().unwrap_or_default().to_string_lossy();
    if !name.starts_with(SOURCES) {
        output(
            Command::new("dpkg-deb").arg("--extract").args([deb, root]),
            UNPACK_LIMIT,
        )
        .await?;
        return Ok(());
    }
    let mut reader = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()?;
    let tar: Stdio = reader
        .stdout
        .take()
        .context("dpkg-deb has no output")?
        .try_into()?;
    let mut writer = Command::new("tar");
    writer.arg("--extract").arg("--directory").arg(root);
    writer
        .args(["--wildcards", "./usr/lib*", "./usr/src/*/library*"])
        .stdin(tar)
        .kill_on_drop(true);
    let both = async { tokio::try_join!(reader.wait(), writer.status()) };
    let (read, written) = timeout(UNPACK_LIMIT, both)
        .await
        .context("unpacking did not end within 5 minutes")??;
    ensure!(
        read.success() && written.success(),
        "{name} can't be unpacked ({read}, {written})"
    );
    Ok(())
}

/// Builds std as the dependency of an empty crate and copies its libraries to where the compiler searches them.
async fn build_std(seed: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(seed.join("src"))?;
    fs::write(seed.join("src/lib.rs"), "")?;
    fs::write(
        seed.join("Cargo.toml"),
        "[package]\nname = \"seed\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n",
    )?;
    let sources = root.join("usr/lib/rustlib/src/rust");
    let mut flags = format!(
        "-Cembed-bitcode=yes --remap-path-prefix={}=/rustc",
        sources.display()
    );
    if let Some(home) = cargo_home() {
        let _ = write!(flags, " --remap-path-prefix={}=/cargo", home.display());
    }
    let mut cargo = clean_cargo();
    cargo
        .args(["build", "--quiet", "--release", "--target", TARGET])
        .arg("-Zbuild-std=std,panic_abort,proc_macro")
        .current_dir(seed)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", rustc_path(root))
        .env("LD_LIBRARY_PATH", library_path(root))
        .env("CARGO_TARGET_DIR", seed.join("target"))
        .env("RUSTFLAGS", flags);
    output(&mut cargo, BUILD_LIMIT).await?;
    let lib = root.join("usr/lib/rustlib").join(TARGET).join("lib");
    fs::create_dir_all(&lib)?;
    for built in fs::read_dir(seed.join("target").join(TARGET).join("release/deps"))? {
        let built = built?;
        let name = built.file_name().to_string_lossy().into_owned();
        let is_library = built.path().extension().is_some_and(|end| end == "rlib");
        if is_library && !name.starts_with("libseed") {
            fs::copy(built.path(), lib.join(&name))?;
        }
    }
    fs::remove_dir_all(seed)?;
    Ok(())
}

/// The compiler in `folder`.
async fn toolchain(folder: &Path) -> Result<GuestToolchain> {
    let root = folder.join("root");
    if !has_target(&mut rustc(&root)).await {
        bail!(
            "the guest toolchain in {} is damaged; remove that folder and retry",
            folder.display()
        );
    }
    let env = vec![
        ("RUSTC", rustc_path(&root).into_os_string()),
        ("LD_LIBRARY_PATH", library_path(&root)),
        (
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER",
            linker().await?.into_os_string(),
        ),
    ];
    Ok(GuestToolchain {
        env,
        sysroot: root.join("usr"),
    })
}

/// The linker of the installed toolchain, or LLVM's on the path.
async fn linker() -> Result<PathBuf> {
    let rustlib = sysroot_of(Path::new("rustc")).await?.join("lib/rustlib");
    let of_rust = fs::read_dir(rustlib)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let on_path = env::var_os("PATH").unwrap_or_default();
    let of_rust = of_rust.map(|entry| entry.path().join("bin/rust-lld"));
    let of_llvm = env::split_paths(&on_path).map(|folder| folder.join("wasm-ld"));
    let found = of_rust.chain(of_llvm).find(|linker| linker.is_file());
    found.context(
        "no linker for WebAssembly is installed; run `apt-get install lld` or install rustup (rustup.rs)",
    )
}

fn rustc_path(root: &Path) -> PathBuf {
    root.join("usr/bin/rustc")
}

fn rustc(root: &Path) -> Command {
    let mut command = Command::new(rustc_path(root));
    command.env("LD_LIBRARY_PATH", library_path(root));
    command
}

fn library_path(root: &Path) -> OsString {
    let multiarch = format!("usr/lib/{}-linux-gnu", env::consts::ARCH);
    root.join(multiarch).into_os_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_is_read_from_the_output_of_apt() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(
            candidate_of(policy).as_deref(),
            Some("1.96.0+dfsg1-1~deb12u2")
        );
        assert_eq!(
            candidate_of("rustc-web:\n  Installed: (none)\n  Candidate: (none)\n"),
            None
        );
        assert_eq!(candidate_of(""), None);
        assert_eq!(folder_name("1:22.1.8-1"), "1_22.1.8-1");
    }

    #[test]
    fn libraries_are_the_versioned_libraries_only() {
        let listed = "rustc-web\n  Depends: libllvm22\nlibllvm22\nlibllvm-spirv\nlibstd-rust-web-1.96\nlibllvm22\n\
                      libstd-rust-web-dev\nlibc6\n";
        assert_eq!(libraries_of(listed), ["libllvm22", "libstd-rust-web-1.96"]);
    }

    #[tokio::test]
    async fn only_complete_folders_are_found() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(find(&cache.path().join("absent")).await.unwrap(), None);
        fs::create_dir_all(cache.path().join(".incomplete-1/root")).unwrap();
        assert_eq!(find(cache.path()).await.unwrap(), None);
        fs::create_dir_all(cache.path().join("1.96")).unwrap();
        fs::write(cache.path().join("1.96").join(COMPLETE), "1.96").unwrap();
        let error = find(cache.path()).await.unwrap_err().to_string();
        assert!(error.contains("is damaged; remove that folder"), "{error}");
        remove_abandoned(cache.path()).unwrap();
        assert!(!cache.path().join(".incomplete-1").exists() && cache.path().join("1.96").exists());
    }
}
