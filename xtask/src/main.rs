//! The commands of a contributor, for what cargo can't do by itself: system packages, the console's libraries, components for
//! another target, servers for tests, and the order of these steps. Each command that it runs is printed.

#![expect(
    clippy::disallowed_methods,
    reason = "this program measures real runs; it has no clock of the host"
)]

mod build;
mod check;
mod leftovers;
mod lint;
mod machine;
mod report;
mod run;
mod selection;
mod servers;
mod test;
mod test_programs;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

const USAGE: &str = "usage: cargo xtask <command>
  dev [ARGS]             build the programs and the plugins, and run `bellwether dev ARGS`
  test [FILTER]          build everything and run the tests, or those that nextest's FILTER selects
  test --exhaustive [--slice I/N] [FILTER]
                         run the repetitions that `test` only samples, or part I of N of them
  check NOUN [CRATE]     build and run only the tests of one noun, in all crates or in one
  lint                   check the format, clippy's findings and the documentation's links
  setup                  prepare this machine and build everything that the tests need";

fn main() -> ExitCode {
    match dispatch() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> anyhow::Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let command = args.next();
    let rest: Vec<String> = args.collect();
    std::env::set_current_dir(root()).context("cannot enter the project's folder")?;
    match command.as_deref() {
        Some("dev") => dev(&rest)?,
        Some("test") => return test::test(&rest),
        Some("check") => return check::check(&rest),
        Some("lint") => lint::lint()?,
        Some("setup") => build::for_tests()?,
        // The setup scripts of nextest run these.
        Some("prepare-tests") => servers::prepare_tests()?,
        Some("start-server") => servers::start(&rest)?,
        Some("keep-server") => servers::keep(&rest)?,
        _ => bail!("{USAGE}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The project's folder, in which this crate lies.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

fn dev(args: &[String]) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    build::for_dev()?;
    let mut dev = Command::new(build::programs()?.join("bellwether"));
    dev.arg("dev").args(args);
    eprintln!("+ {}", run::shown(&dev));
    // This process becomes the host, so that Ctrl-C reaches the host directly.
    let error = dev.exec();
    Err(error).context("cannot start bellwether")
}
