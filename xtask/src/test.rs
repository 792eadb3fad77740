//! Runs the tests: the default suite, or the exhaustive one in parts.

use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::build;
use crate::leftovers::Run;
use crate::report::{self, Budget};
use crate::run::{cargo, quiet, run, shown};
use crate::selection;

/// Tells tests to repeat everything, and which part of that: `I/N`.
const EXHAUSTIVE: &str = "BELLWETHER_EXHAUSTIVE";
/// How many tests run side by side on each core: most of them wait.
const TESTS_PER_CORE: usize = 4;

const DEFAULT_BUDGET: Budget = Budget {
    tests: Duration::from_mins(12),
    total: Duration::from_mins(30),
};
const SLICE_BUDGET: Budget = Budget {
    tests: Duration::from_mins(20),
    total: Duration::from_mins(40),
};

/// What a command line of `test` asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    /// Part I of N of the exhaustive suite.
    slice: Option<(u32, u32)>,
    /// For nextest.
    filter: Vec<String>,
}

/// Builds everything and runs the tests.
pub(crate) fn test(args: &[String]) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let request = parse(args)?;
    build::for_tests()?;
    if request.filter.is_empty() && request.slice.is_none() {
        plugins()?;
    }
    if !has_nextest() {
        return without_nextest(&request);
    }
    let (profile, budget) = match request.slice {
        Some(_) => ("exhaustive", SLICE_BUDGET),
        None if std::env::var_os("CI").is_some() => ("ci", DEFAULT_BUDGET),
        None => ("default", DEFAULT_BUDGET),
    };
    let mut tests = nextest(profile);
    tests.args(selection::tested()).args(&request.filter);
    if let Some((part, of)) = request.slice {
        tests.env(EXHAUSTIVE, format!("{part}/{of}"));
    }
    observed(tests, profile, begun, Some(budget))
}

/// nextest with a profile, and with as many tests side by side as this machine bears.
pub(crate) fn nextest(profile: &str) -> Command {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores * TESTS_PER_CORE).to_string();
    let nextest = ["nextest", "run", "--locked", "--profile", profile];
    cargo(nextest.into_iter().chain(["--test-threads", &threads]))
}

/// Whether nextest is installed.
pub(crate) fn has_nextest() -> bool {
    quiet(cargo(["nextest", "--version"]))
}

/// Runs nextest, and says afterwards which tests were slow and what they left behind.
pub(crate) fn observed(
    mut tests: Command,
    profile: &str,
    begun: Instant,
    budget: Option<Budget>,
) -> anyhow::Result<ExitCode> {
    let report = build::target()?.join("nextest").join(profile);
    let report = report.join("junit.xml");
    drop(std::fs::remove_file(&report));
    let observed = Run::begin()?;
    observed.mark(&mut tests);
    tests.env("BELLWETHER_PROGRAMS", build::programs()?);
    eprintln!("+ {}", shown(&tests));
    let (status, summary) = run_and_copy(tests)?;
    report::print(&report, begun.elapsed(), budget);
    let left = observed.end()?;
    // What reads only the last lines of a log looks for the summary there.
    for line in summary {
        eprintln!("{line}");
    }
    if !left.is_empty() {
        bail!("the tests left behind:\n  {}", left.join("\n  "));
    }
    Ok(exit_code(status))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Runs nextest. On a terminal it draws there itself; otherwise its output is copied, and its summary returned.
fn run_and_copy(mut tests: Command) -> anyhow::Result<(ExitStatus, Vec<String>)> {
    if std::io::stderr().is_terminal() {
        let status = tests.status().context("cannot start nextest")?;
        return Ok((status, Vec::new()));
    }
    let mut child = tests
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start nextest")?;
    let output = child.stderr.take().context("nextest has no output")?;
    let mut summary = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read nextest's output")?;
        if line.trim_start().starts_with("Summary [") {
            summary.push(line.clone());
        }
        eprintln!("{line}");
    }
    let status = child.wait().context("cannot wait for nextest")?;
    Ok((status, summary))
}

/// Plugins are a workspace of their own; their tests run as native code.
fn plugins() -> anyhow::Result<()> {
    let test = ["test", "--quiet", "--workspace", "--locked"];
    let plugins = ["--manifest-path", "plugins/Cargo.toml"];
    run(cargo(test.into_iter().chain(plugins)))
}

fn without_nextest(request: &Request) -> anyhow::Result<ExitCode> {
    const INSTALL: &str = "install it with `cargo install --locked cargo-nextest`";
    if !request.filter.is_empty() || request.slice.is_some() {
        bail!("filters and the exhaustive suite need cargo-nextest; {INSTALL}");
    }
    eprintln!("cargo-nextest is not installed, so `cargo test` runs the tests; {INSTALL}");
    let mut tests = cargo(build::with(&["test", "--locked"], selection::tested()));
    tests.env("BELLWETHER_PROGRAMS", build::programs()?);
    run(tests)?;
    Ok(ExitCode::SUCCESS)
}

fn parse(args: &[String]) -> anyhow::Result<Request> {
    let mut request = Request {
        slice: None,
        filter: Vec::new(),
    };
    if !args.iter().any(|arg| arg == "--exhaustive") && args.iter().any(|arg| arg == "--slice") {
        bail!("only the exhaustive suite has slices; add `--exhaustive`");
    }
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--exhaustive" => request.slice = request.slice.or(Some((1, 1))),
            "--slice" => {
                let value = args.next().context("`--slice` needs a value such as 2/8")?;
                request.slice = Some(slice(value)?);
            }
            _ => request.filter.push(arg.clone()),
        }
    }
    Ok(request)
}

fn slice(value: &str) -> anyhow::Result<(u32, u32)> {
    let parsed = value
        .split_once('/')
        .and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
    match parsed {
        Some((part, of)) if (1..=of).contains(&part) => Ok((part, of)),
        _ => bail!("`{value}` is not a slice; write I/N with I from 1 to N, such as 2/8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &str) -> anyhow::Result<Request> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        parse(&args)
    }

    #[test]
    fn slices_belong_to_the_exhaustive_suite_and_start_at_one() {
        let whole = parsed("--exhaustive");
        assert_eq!(whole.ok().and_then(|request| request.slice), Some((1, 1)));
        for line in [
            "--exhaustive --slice 2/8 bus",
            "--slice 2/8 bus --exhaustive",
        ] {
            let request = parsed(line).ok();
            let expected = Request {
                slice: Some((2, 8)),
                filter: vec!["bus".to_owned()],
            };
            assert_eq!(request, Some(expected), "{line}");
        }
        for wrong in [
            "--slice 1/2",
            "--exhaustive --slice",
            "--exhaustive --slice 0/8",
            "--exhaustive --slice 9/8",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
