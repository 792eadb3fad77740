//! A PostgreSQL server: the one that all tests of a run share and `BELLWETHER_TEST_PG` names, or one that a test starts.
//!
//! A server of a test listens on a socket in its own folder, runs as `nobody` when the test runs as root (PostgreSQL refuses
//! root), ends with the test even when that is killed, and never calls `fsync`. Databases on a shared server are dropped with
//! the test that made them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection};
use tempfile::TempDir;

use super::database::TestDb;

const START_ATTEMPTS_MAX: u32 = 100;

/// A server on which tests make databases.
pub(crate) struct Postgres {
    // The server ends before its folder goes.
    server: Option<Child>,
    folder: Option<TempDir>,
    admin_url: String,
    /// Databases on a shared server.
    made: Mutex<Vec<String>>,
}

impl Postgres {
    /// The shared server, or one of its own; `None` where PostgreSQL is not installed, which is a failure when `CI` is set.
    pub(crate) async fn start() -> Option<Self> {
        if let Ok(admin_url) = std::env::var("BELLWETHER_TEST_PG") {
            return Some(Self {
                server: None,
                folder: None,
                admin_url,
                made: Mutex::default(),
            });
        }
        Self::start_own().await
    }

    /// A server of its own, which can be stopped.
    pub(crate) async fn start_own() -> Option<Self> {
        let Some(programs) = find_programs() else {
            assert!(
                std::env::var_os("CI").is_none(),
                "no PostgreSQL on this machine: install it or set BELLWETHER_TEST_PG"
            );
            eprintln!(
                "SKIPPED on PostgreSQL: no `initdb` in PATH or /usr/lib/postgresql; install it or set BELLWETHER_TEST_PG"
            );
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown").arg("nobody").arg(folder.path()));
        }
        let mut initdb = as_nobody(&programs.join("initdb"));
        run(initdb
            .args([
                "--username=bellwether",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .arg("--pgdata")
            .arg(&data));
        let server = serve(folder.path());
        let admin_url = format!(
            "postgres://bellwether@localhost/postgres?host={}",
            folder.path().display()
        );
        let started = Self {
            server: Some(server),
            folder: Some(folder),
            admin_url,
            made: Mutex::default(),
        };
        started.wait().await;
        Some(started)
    }

    /// The server's folder, where it is on this machine.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        let url = url::Url::parse(&self.admin_url).unwrap();
        let mut parts = url.query_pairs();
        let host = parts.find(|(name, _)| name == "host")?.1.into_owned();
        Some(PathBuf::from(host)).filter(|folder| folder.is_absolute())
    }

    /// Ends a server of its own as a power cut does.
    pub(crate) fn stop(&mut self) {
        let mut server = self.server.take().unwrap();
        quit(&mut server);
    }

    /// Starts the stopped server on the data that it had.
    pub(crate) async fn start_again(&mut self) {
        let folder = self.folder.as_ref().unwrap();
        self.server = Some(serve(folder.path()));
        self.wait().await;
    }

    /// A new database with the schema in it.
    pub(crate) async fn database(&self) -> TestDb {
        TestDb::at(self.empty_database().await).await
    }

    /// The address of a new database without any schema.
    pub(crate) async fn empty_database(&self) -> String {
        let name = format!("bw_test_{}", uuid::Uuid::now_v7().simple());
        let mut admin = sqlx::PgConnection::connect(&self.admin_url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut admin)
            .await
            .unwrap();
        if self.server.is_none() {
            self.made.lock().unwrap().push(name.clone());
        }
        let mut url = url::Url::parse(&self.admin_url).unwrap();
        url.set_path(&name);
        url.to_string()
    }

    async fn wait(&self) {
        let mut last = None;
        for _ in 0..START_ATTEMPTS_MAX {
            match sqlx::PgConnection::connect(&self.admin_url).await {
                Ok(_) => return,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!(
            "PostgreSQL did not start in {:?}: {last:?}",
            self.folder.as_ref().map(TempDir::path)
        );
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            quit(server);
        }
        let made = std::mem::take(&mut *self.made.lock().unwrap());
        if !made.is_empty() {
            let url = self.admin_url.clone();
            // A runtime of its own: that of the test can't wait in here.
            let dropped = std::thread::spawn(move || drop_databases(&url, &made));
            drop(dropped.join());
        }
    }
}

/// Drops databases, also while somebody is connected to them.
fn drop_databases(admin_url: &str, names: &[String]) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(async {
        let mut admin = sqlx::PgConnection::connect(admin_url).await.unwrap();
        for name in names {
            let statement = format!("DROP DATABASE {name} WITH (FORCE)");
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&mut admin)
                .await
                .unwrap();
        }
    });
}

fn serve(folder: &Path) -> Child {
    let programs = find_programs().unwrap();
    as_nobody(&programs.join("postgres"))
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder)
        .args([
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
            "-c",
            "full_page_writes=off",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Ends a server; its children end with it.
fn quit(server: &mut Child) {
    if let Some(pid) = rustix::process::Pid::from_raw(server.id().cast_signed()) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
    }
    let _ = server.wait();
}

/// The newest installed PostgreSQL.
fn find_programs() -> Option<PathBuf> {
    let in_path = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .unwrap_or_default();
    let mut installed: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    installed.sort();
    installed
        .into_iter()
        .rev()
        .chain(in_path)
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

/// The program, told to end when this test does, and not as root.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    }
    command.args(["--pdeathsig", "QUIT"]).arg(program);
    // A folder that `nobody` may enter.
    command.current_dir("/");
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
