//! Finds or installs a Rust compiler for `wasm32-unknown-unknown`.
//!
//! It tries in this order: the installed compiler, one that an earlier run installed, rustup's target, Debian's `rustc-web`
//! packages. It unpacks the packages into a cache folder without root and builds std once. It prepares the folder under
//! another name and a lock and renames it when it is complete, so that an interrupted or parallel run leaves no broken one.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::debian;
use super::process::{output, succeeds};

/// The target that guests are built for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// `rustup` or `debian` restricts the search to that source.
const SOURCE_VARIABLE: &str = "BELLWETHER_GUEST_TOOLCHAIN";

const PROBE_LIMIT: Duration = Duration::from_secs(30);
const RUSTUP_LIMIT: Duration = Duration::from_mins(10);

/// A compiler for plugins, as cargo has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GuestToolchain {
    /// Environment of the `cargo build`.
    pub(crate) env: Vec<(&'static str, OsString)>,
    /// The folder of the compiler. Paths in it must not reach a component.
    pub(crate) sysroot: PathBuf,
}

/// Finds or installs a compiler for plugins, and reports slow steps on standard error.
pub(crate) async fn prepare() -> Result<GuestToolchain> {
    let source = env::var(SOURCE_VARIABLE).unwrap_or_default();
    let may = |name: &str| source.is_empty() || source == name;
    if may("rustup")
        && let Some(found) = installed().await?
    {
        return Ok(found);
    }
    let cache = cache_folder()?;
    if may("debian")
        && let Some(found) = debian::find(&cache).await?
    {
        return Ok(found);
    }
    if may("rustup")
        && rustup_adds_target().await
        && let Some(found) = installed().await?
    {
        return Ok(found);
    }
    if may("debian") && debian::is_available().await {
        return debian::install(&cache)
            .await
            .with_context(|| no_compiler("the installation from Debian's packages failed"));
    }
    bail!(no_compiler(
        "neither rustup nor Debian's packages provide one"
    ))
}

fn no_compiler(why: &str) -> String {
    format!(
        "no Rust compiler for {TARGET}: {why}; install rustup (rustup.rs) and run `rustup target add {TARGET}`"
    )
}

/// The installed compiler, if it has the target.
async fn installed() -> Result<Option<GuestToolchain>> {
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

/// Whether a compiler has the target's standard library.
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

/// The folder of a compiler's libraries.
pub(super) async fn sysroot_of(rustc: &Path) -> Result<PathBuf> {
    let sysroot = output(
        Command::new(rustc).args(["--print", "sysroot"]),
        PROBE_LIMIT,
    )
    .await
    .context("no Rust compiler is installed; install rustup (rustup.rs)")?;
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
            eprintln!("guest toolchain: rustup can't add the target: {error:#}");
            false
        }
    }
}

/// The cache folder, which all checkouts of a user share.
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
