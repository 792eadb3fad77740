//! A Rust compiler for `wasm32-unknown-unknown`, on machines with rustup's target and on machines without it.
//!
//! In this order: the machine's own compiler, one that was made before, rustup's target, Debian's `rustc-web` packages.
//! The packages are unpacked into a cache folder without root, and std is built once; the folder is made aside and
//! renamed when it is complete, under a lock, so that a broken or doubled start leaves nothing half made.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::guest_debian;
use super::process::{output, succeeds};

/// The target that guests are built for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Set to `rustup` or `debian`, the machine's other ways to a compiler are not tried.
const WAY_VARIABLE: &str = "BELLWETHER_GUEST_TOOLCHAIN";

const PROBE_LIMIT: Duration = Duration::from_secs(30);
const RUSTUP_LIMIT: Duration = Duration::from_mins(10);

/// What cargo has to be told so that it builds guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GuestToolchain {
    /// Environment of the `cargo build`.
    pub(crate) env: Vec<(&'static str, OsString)>,
    /// The folder of the compiler; paths below it must not reach a component.
    pub(crate) sysroot: PathBuf,
}

/// Finds a compiler for guests or makes one, and says on standard error what takes time.
pub(crate) async fn prepare() -> Result<GuestToolchain> {
    let way = env::var(WAY_VARIABLE).unwrap_or_default();
    let may = |name: &str| way.is_empty() || way == name;
    if may("rustup")
        && let Some(found) = of_machine().await?
    {
        return Ok(found);
    }
    let cache = cache_folder()?;
    if may("debian")
        && let Some(made) = guest_debian::made_before(&cache).await?
    {
        return Ok(made);
    }
    if may("rustup")
        && rustup_adds_target().await
        && let Some(found) = of_machine().await?
    {
        return Ok(found);
    }
    if may("debian") && guest_debian::is_possible().await {
        return guest_debian::make(&cache)
            .await
            .with_context(|| no_compiler("making one of Debian's packages failed"));
    }
    bail!(no_compiler("neither rustup nor Debian's packages gave one"))
}

fn no_compiler(why: &str) -> String {
    format!(
        "no Rust compiler for {TARGET}: {why}; install rustup (rustup.rs) and run `rustup target add {TARGET}`"
    )
}

/// The machine's own compiler, when it has the target.
async fn of_machine() -> Result<Option<GuestToolchain>> {
    let rustc = env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    if !has_target(&mut Command::new(&rustc)).await {
        return Ok(None);
    }
    let sysroot = sysroot_of(&rustc).await?;
    Ok(Some(GuestToolchain {
        env: Vec::new(),
        sysroot,
    }))
}

/// Whether a compiler holds the target's standard library.
pub(super) async fn has_target(rustc: &mut Command) -> bool {
    let Ok(folder) = output(
        rustc.args(["--print", "target-libdir", "--target", TARGET]),
        PROBE_LIMIT,
    )
    .await
    else {
        return false;
    };
    let Ok(entries) = std::fs::read_dir(folder.trim()) else {
        return false;
    };
    entries.filter_map(Result::ok).any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}

/// Where a compiler's libraries lie.
pub(super) async fn sysroot_of(rustc: &Path) -> Result<PathBuf> {
    let sysroot = output(
        Command::new(rustc).args(["--print", "sysroot"]),
        PROBE_LIMIT,
    )
    .await
    .context("no Rust compiler found; install rustup (rustup.rs)")?;
    Ok(PathBuf::from(sysroot.trim()))
}

async fn rustup_adds_target() -> bool {
    if !succeeds(Command::new("rustup").arg("--version"), PROBE_LIMIT).await {
        return false;
    }
    eprintln!("guest toolchain: rustup target add {TARGET}");
    match output(
        Command::new("rustup").args(["target", "add", TARGET]),
        RUSTUP_LIMIT,
    )
    .await
    {
        Ok(_) => true,
        Err(error) => {
            eprintln!("guest toolchain: rustup could not add it: {error:#}");
            false
        }
    }
}

/// Shared by all checkouts of the machine's user.
fn cache_folder() -> Result<PathBuf> {
    let base = if let Some(base) =
        env::var_os("XDG_CACHE_HOME").filter(|path| Path::new(path).is_absolute())
    {
        PathBuf::from(base)
    } else {
        let home = env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?;
        PathBuf::from(home).join(".cache")
    };
    Ok(base.join("bellwether").join("guest-toolchain"))
}
