//! The two commands of the README and their parts, for what cargo can't do by itself: packages of the system, the console's
//! libraries, components for another target, and the order of it all. It says each command that it runs.

mod machine;
mod programs;
mod run;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

use run::{quiet, run};

const USAGE: &str = "usage: cargo xtask <command>
  dev [ARGS]    build everything and run `bellwether dev ARGS`
  test [FILTER] check the format, build, lint, and run every test (or, without lint, those that nextest's FILTER names)
  lint          clippy and rustdoc over everything, no warning allowed
  setup         only prepare this machine and build everything";

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let command = args.next();
    let rest: Vec<String> = args.collect();
    std::env::set_current_dir(root()).context("the project's folder can't be entered")?;
    match command.as_deref() {
        Some("dev") => dev(&rest),
        Some("test") => test(&rest),
        Some("setup") => setup(false),
        Some("lint") => lint(),
        _ => bail!("{USAGE}"),
    }
}

/// The project's folder: this crate lies in it.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The folder of the built programs: this one is among them.
fn programs() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("this program can't find itself")?;
    Ok(this
        .parent()
        .context("this program lies in no folder")?
        .to_owned())
}

/// The folder of everything that is built.
fn target() -> anyhow::Result<PathBuf> {
    let programs = programs()?;
    let target = programs
        .parent()
        .context("the target folder has no parent")?;
    Ok(target.to_owned())
}

fn setup(for_tests: bool) -> anyhow::Result<()> {
    machine::prepare(for_tests)?;
    console()?;
    if for_tests {
        run(cargo(&["fmt", "--all", "--check"]))?;
        run(cargo(&[
            "fmt",
            "--all",
            "--check",
            "--manifest-path",
            "plugins/Cargo.toml",
        ]))?;
    }
    let mut build = vec!["build", "--workspace", "--locked"];
    if for_tests {
        // One set of targets for every later command: another one would resolve other features and build twice.
        build.push("--all-targets");
    }
    run(cargo(&build))?;
    if for_tests {
        programs::install(target()?.as_path())?;
    }
    components(for_tests)
}

/// The console's libraries, exactly as its lock file names them.
fn console() -> anyhow::Result<()> {
    let folder = Path::new("host/server/console");
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
    run(install).context("the console's libraries are not installed; is npm there?")?;
    std::fs::write(&mark, lock).context("the console's folder can't be written")
}

/// First-party plugins, and for tests the hostile ones, as components.
fn components(for_tests: bool) -> anyhow::Result<()> {
    let bellwether = programs()?.join("bellwether");
    let build = |dir: &str, out: &Path| {
        let mut build = Command::new(&bellwether);
        build.args(["plugin", "build", dir, "--out"]).arg(out);
        run(build)
    };
    build("plugins", Path::new("chain-configs/components"))?;
    if for_tests {
        let out = target()?.join("test-guests");
        build("tests/support/guests", &out)?;
    }
    Ok(())
}

fn dev(args: &[String]) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    setup(false)?;
    let mut dev = Command::new(programs()?.join("bellwether"));
    dev.arg("dev").args(args);
    eprintln!("+ {}", run::shown(&dev));
    // Becomes the host: a Ctrl-C has nobody in between.
    let error = dev.exec();
    Err(error).context("bellwether can't be started")
}

/// What compiles but should not be: clippy's findings, and documentation that leads nowhere.
fn lint() -> anyhow::Result<()> {
    run(cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "--deny",
        "warnings",
    ]))?;
    run(cargo(&[
        "clippy",
        "--workspace",
        "--manifest-path",
        "plugins/Cargo.toml",
        "--locked",
        "--",
        "--deny",
        "warnings",
    ]))?;
    let mut doc = cargo(&[
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--locked",
    ]);
    doc.env("RUSTDOCFLAGS", "--deny warnings");
    run(doc)
}

fn test(filter: &[String]) -> anyhow::Result<()> {
    setup(true)?;
    if filter.is_empty() {
        lint()?;
        // A workspace of its own, whose crates are tested as native code.
        run(cargo(&[
            "test",
            "--quiet",
            "--workspace",
            "--manifest-path",
            "plugins/Cargo.toml",
            "--locked",
        ]))?;
    }
    let mut tests = if quiet(cargo(&["nextest", "--version"])) {
        let profile = if std::env::var_os("CI").is_some() {
            "ci"
        } else {
            "default"
        };
        cargo(&[
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--profile",
            profile,
        ])
    } else if !filter.is_empty() {
        bail!("a filter is nextest's; install it by `cargo install --locked cargo-nextest`")
    } else {
        eprintln!(
            "cargo-nextest is not installed; `cargo test` runs the same tests, one binary after the other"
        );
        cargo(&["test", "--workspace", "--locked"])
    };
    tests.args(filter);
    tests.env("BELLWETHER_PROGRAMS", programs()?);
    run(tests)
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}
