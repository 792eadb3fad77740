//! Builds: the console's libraries, the programs, and the plugins as components.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::run::{cargo, run};
use crate::{machine, selection, test_programs};

const CONSOLE: &str = "host/server/console";

/// The folder of the built programs; this program is among them.
pub(crate) fn programs() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find the path of this program")?;
    Ok(this
        .parent()
        .context("this program lies in no folder")?
        .to_owned())
}

/// The target folder.
pub(crate) fn target() -> anyhow::Result<PathBuf> {
    let programs = programs()?;
    let target = programs
        .parent()
        .context("the target folder has no parent")?;
    Ok(target.to_owned())
}

/// Builds what `dev` runs: the programs and the first-party plugins.
pub(crate) fn for_dev() -> anyhow::Result<()> {
    machine::prepare(false)?;
    console()?;
    run(cargo(with(&["build", "--locked"], selection::programs())))?;
    first_party_components()
}

/// Prepares this machine for the tests, and builds all of them.
pub(crate) fn for_tests() -> anyhow::Result<()> {
    machine::prepare(true)?;
    console()?;
    let build = ["build", "--locked", "--bins", "--tests"];
    run(cargo(with(&build, selection::tested())))?;
    test_programs::install(target()?.as_path())?;
    first_party_components()?;
    test_components()
}

/// Builds what tests start and read, for tests that run without `cargo xtask test`. It installs nothing.
pub(crate) fn what_tests_start() -> anyhow::Result<()> {
    console()?;
    let build = with(&["build", "--locked"], selection::programs_under_test());
    run(cargo(build))?;
    first_party_components()?;
    test_components()
}

/// Arguments of cargo: a command, and what it applies to.
pub(crate) fn with(command: &[&str], selection: Vec<String>) -> Vec<String> {
    let command = command.iter().map(|arg| (*arg).to_owned());
    command.chain(selection).collect()
}

/// Installs the console's libraries as its lock file names them.
fn console() -> anyhow::Result<()> {
    let folder = Path::new(CONSOLE);
    let lock =
        std::fs::read(folder.join("package-lock.json")).context("the console has no lock file")?;
    let mark = folder.join("node_modules/.installed-lock");
    if std::fs::read(&mark).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let mut install = Command::new("npm");
    install
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(folder);
    run(install).context("cannot install the console's libraries; check that npm works")?;
    std::fs::write(&mark, lock).context("cannot write to the console's folder")
}

fn first_party_components() -> anyhow::Result<()> {
    components("plugins", Path::new("chain-configs/components"))
}

/// The plugins that misbehave.
fn test_components() -> anyhow::Result<()> {
    components("tests/support/guests", &target()?.join("test-guests"))
}

fn components(source: &str, out: &Path) -> anyhow::Result<()> {
    let mut build = Command::new(programs()?.join("bellwether"));
    build.args(["plugin", "build", source, "--out"]).arg(out);
    run(build)
}
