//! One PostgreSQL, one Temporal, one NATS of each version and one chromedriver, which all tests of a run share.
//!
//! nextest starts them by its setup scripts, each only when a selected test needs it. A keeper process beside each server
//! ends it with the run. Without nextest, a test starts its own server.

mod kinds;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::{CommandExt as _, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::build;
use crate::leftovers::{RUN_FOLDER, RUN_PROCESS};
use crate::run::quiet;

pub(crate) use kinds::databases;

/// How long a server may take until it accepts connections, on a busy machine.
const READY: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(100);
/// The file in the run's folder that ends the servers.
const OVER: &str = "over";
/// The file of nextest that takes the variables for the tests.
const NEXTEST_VARIABLES: &str = "NEXTEST_ENV";

/// A server: how it is started, and when it is ready.
struct Server {
    /// Its files.
    folder: PathBuf,
    program: PathBuf,
    args: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// PostgreSQL refuses to run as root.
    as_nobody: bool,
    /// The signal with which it ends in order.
    end_signal: &'static str,
}

/// Starts a server of a kind, and tells the tests where it is. Where its program is not installed, nothing is started: each
/// test that needs the server says what to install.
pub(crate) fn start(args: &[String]) -> anyhow::Result<()> {
    let [kind] = args else {
        bail!("usage: cargo xtask start-server KIND");
    };
    let folder = run_folder().join("servers").join(kind);
    fs::create_dir_all(&folder).context("cannot make the folder of a server")?;
    let variables = match kind.as_str() {
        "postgres" => kinds::postgres(folder),
        "temporal" => kinds::temporal(folder),
        "nats" => kinds::nats(&folder),
        "chromedriver" => kinds::chromedriver(folder),
        _ => bail!("`{kind}` is not a kind of server"),
    };
    tell_tests(&variables.with_context(|| format!("cannot start {kind}"))?)
}

/// Builds what tests start, unless `cargo xtask` has done so before it ran nextest.
pub(crate) fn prepare_tests() -> anyhow::Result<()> {
    if std::env::var_os("BELLWETHER_PROGRAMS").is_some() {
        return Ok(());
    }
    build::what_tests_start()?;
    let programs = build::programs()?.display().to_string();
    tell_tests(&[("BELLWETHER_PROGRAMS", programs)])
}

/// Runs a server until the process ends that it serves: `PID FOLDER SIGNAL COMMAND…`.
pub(crate) fn keep(args: &[String]) -> anyhow::Result<()> {
    let [process, folder, end_signal, program, args @ ..] = args else {
        bail!("usage: cargo xtask keep-server PID FOLDER SIGNAL COMMAND");
    };
    let log = Path::new(folder).join("log");
    let log = OpenOptions::new().create(true).append(true).open(log);
    let log = log.context("cannot write the log of a server")?;
    let mut server = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(
            log.try_clone()
                .context("cannot write the log of a server")?,
        )
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let process = Path::new("/proc").join(process);
    let over = Path::new(folder)
        .ancestors()
        .nth(2)
        .map(|run| run.join(OVER));
    let is_over = || !process.exists() || over.as_ref().is_some_and(|over| over.exists());
    while !is_over() && server.try_wait().ok().flatten().is_none() {
        std::thread::sleep(PAUSE);
    }
    signal(end_signal, server.id());
    let begun = Instant::now();
    while server.try_wait().ok().flatten().is_none() && begun.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(PAUSE);
    }
    drop(server.kill());
    drop(server.wait());
    fs::remove_dir_all(folder).context("cannot remove the folder of a server")
}

/// Ends the servers of a run, and waits for that.
pub(crate) fn stop(run: &Path) {
    let servers = run.join("servers");
    drop(fs::write(run.join(OVER), ""));
    let begun = Instant::now();
    while n_entries(&servers) > 0 && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(PAUSE);
    }
}

fn n_entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

impl Server {
    /// Starts the server beside a keeper, which outlives this process.
    fn start(&self) -> anyhow::Result<()> {
        let this = std::env::current_exe().context("cannot find the path of this program")?;
        let mut keeper = Command::new(this);
        keeper.arg("keep-server").arg(served_process());
        keeper.arg(&self.folder).arg(self.end_signal).arg("setpriv");
        if self.as_nobody {
            keeper.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        }
        // The server ends with its keeper, even when that is killed.
        keeper.args(["--pdeathsig", self.end_signal]);
        keeper.arg(&self.program).args(&self.args);
        keeper.envs(self.environment.iter().cloned());
        // Not a leftover of the tests.
        for variable in [RUN_FOLDER, RUN_PROCESS, "TMPDIR"] {
            keeper.env_remove(variable);
        }
        // A group of its own: neither nextest nor Ctrl-C ends it.
        keeper.process_group(0);
        keeper.stdin(Stdio::null()).stdout(Stdio::null());
        keeper.stderr(Stdio::null());
        keeper
            .spawn()
            .context("cannot start the keeper of a server")?;
        Ok(())
    }

    /// Starts the server and waits until it accepts connections.
    fn start_at(&self, port: u16) -> anyhow::Result<()> {
        self.start()?;
        self.wait_until("it accepts connections", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
    }

    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !is_so() {
            if begun.elapsed() > READY {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("waited {READY:?} until {what}; its log says: {log}");
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// The folder of this run's files.
fn run_folder() -> PathBuf {
    let name = || std::env::temp_dir().join(format!("bellwether-test-{}", parent_id()));
    std::env::var_os(RUN_FOLDER).map_or_else(name, PathBuf::from)
}

/// The process with which the servers end: `cargo xtask test`, or nextest itself.
fn served_process() -> String {
    std::env::var(RUN_PROCESS).unwrap_or_else(|_| parent_id().to_string())
}

fn tell_tests(variables: &[(&str, String)]) -> anyhow::Result<()> {
    let file = std::env::var_os(NEXTEST_VARIABLES)
        .with_context(|| format!("nextest sets {NEXTEST_VARIABLES} for its setup scripts"))?;
    let file = OpenOptions::new().append(true).open(file);
    let mut file = file.context("cannot write nextest's variables")?;
    for (name, value) in variables {
        writeln!(file, "{name}={value}").context("cannot write nextest's variables")?;
    }
    Ok(())
}

fn signal(signal: &str, process: u32) {
    let mut kill = Command::new("sh");
    kill.args(["-c", &format!("kill -{signal} {process}")]);
    quiet(kill);
}

/// A port that is free now.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no port is free")?;
    Ok(listener.local_addr().context("no port is free")?.port())
}
