//! A host with one toy chain, no agent and no plugins: enough for everything that the API does by itself.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use host_domain::time::Clock;
use host_runtime::CompileMode;
use host_server::config::Config;
use host_server::host::{Host, HostOptions, Schema};
use host_server::ops::Scope;
use host_system::SystemClock;
use reqwest::{Method, RequestBuilder, Response};
use secrecy::ExposeSecret;
use serde_json::Value;
use sqlx::Connection;
use tempfile::TempDir;

/// A running host; the folder goes away with it.
pub(super) struct Bed {
    pub(super) host: Host,
    pub(super) dir: TempDir,
    /// A key that may do everything.
    pub(super) admin: String,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
}

impl Bed {
    pub(super) async fn start() -> Self {
        Self::start_at(Arc::new(SystemClock)).await
    }

    /// With a clock that the test moves.
    pub(super) async fn start_at(clock: Arc<dyn Clock>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        toy_chain(&dir.path().join("chain-configs"));
        let bed = Self::start_in_at(dir, clock).await.unwrap();
        bed.know_local_machine().await;
        bed
    }

    /// On a folder that has `chain-configs`, and perhaps the state of an earlier host.
    pub(super) async fn start_in(dir: TempDir) -> anyhow::Result<Self> {
        Self::start_in_at(dir, Arc::new(SystemClock)).await
    }

    async fn start_in_at(dir: TempDir, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        // The first caller sets it for the whole binary.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let is_new = !dir.path().join(".bellwether").exists();
        let host = start_host(dir.path(), clock.clone()).await?;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut bed = Self {
            host,
            dir,
            admin: String::new(),
            http,
            clock,
        };
        // An earlier host's key has its name for as long as it is active.
        let name = if is_new {
            "admin".to_owned()
        } else {
            format!("admin-{}", uuid::Uuid::now_v7())
        };
        bed.admin = bed.key(&name, &[Scope::Admin]).await;
        Ok(bed)
    }

    /// Records the machine of the provider `local`: without it making a node fails at once.
    async fn know_local_machine(&self) {
        let body = serde_json::json!({ "machine": "local" });
        let request = self.request(Method::POST, "/api/v1/agents/enrolment-tokens");
        let response = request.json(&body).send().await.unwrap();
        assert_eq!(response.status(), 201);
    }

    /// A new key with these scopes.
    pub(super) async fn key(&self, name: &str, scopes: &[Scope]) -> String {
        let scopes = scopes.iter().copied().collect();
        let key = self
            .host
            .ops
            .api_keys
            .create_for_host(name, &scopes)
            .await
            .unwrap();
        key.expose_secret().to_owned()
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host.http)
    }

    /// A request without a key.
    pub(super) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// A request of the admin.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(&self.admin)
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        let response = self.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200, "GET {path}");
        response.json().await.unwrap()
    }

    /// Makes a node of the toy chain; it waits for an agent for ever.
    pub(super) async fn node(&self, name: &str) -> Value {
        let body = serde_json::json!({ "chain": "toy", "node_type": "full", "name": name });
        let request = self.request(Method::POST, "/api/v1/nodes").json(&body);
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, 202, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Ends the host and starts another one on what it left, at other addresses.
    pub(super) async fn restart(mut self) -> Self {
        self.host.stop().await;
        self.host = start_host(self.dir.path(), self.clock.clone())
            .await
            .unwrap();
        self
    }

    /// Runs a statement on the host's own database, beside the host.
    pub(super) async fn sql(&self, file: &str, statement: &'static str) {
        let path = self.dir.path().join(".bellwether").join(file);
        let url = format!("sqlite://{}", path.display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(statement)
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    }

    pub(super) async fn stop(self) -> TempDir {
        self.host.stop().await;
        self.dir
    }
}

/// Checks that an answer is a whole problem, and gives it.
pub(super) async fn problem(response: Response, status: u16, code: &str) -> Value {
    let media = response.headers().get("content-type").cloned();
    let id = response.headers().get("x-request-id").cloned().unwrap();
    let found = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{text}");
    assert_eq!(media.unwrap(), "application/problem+json", "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["type"], format!("/problems/{code}"), "{text}");
    assert_eq!(body["status"], status);
    assert_eq!(body["instance"], id.to_str().unwrap());
    assert!(!body["title"].as_str().unwrap().is_empty());
    assert!(!body["detail"].as_str().unwrap().is_empty());
    body
}

async fn start_host(dir: &Path, clock: Arc<dyn Clock>) -> anyhow::Result<Host> {
    let mut config = Config {
        state_dir: dir.join(".bellwether"),
        ..Config::default()
    };
    config.chains.dir = dir.join("chain-configs");
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    config.gateway.listen = "127.0.0.1:0".parse().unwrap();
    let options = HostOptions {
        compile: CompileMode::InProcess,
        clock,
        schema: Schema::Migrate,
        take_over_workflows: false,
    };
    Host::start(config, options).await
}

pub(super) fn toy_chain(dir: &Path) {
    let put = |path: &str, text: &str| {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("schema_version: \"1.0\"\n{text}")).unwrap();
    };
    put(
        "chains/toy/profile.yaml",
        "chain_id: toy\ndisplay_name: Toy\nnetwork_type: devnet\nchain_type: toy\nnode_types:\n  full:\n    resources: {cpu: 1, memory_gb: 1, disk_gb: 1}\n    default_providers: [local]\n    providers:\n      local: {instance_type: x, default_region: r, regions: [r]}\n",
    );
    put("chains/toy/runtime.yaml", "process: {command: bin/toyd}\n");
    put("chains/toy/observation.yaml", "collectors: []\n");
    put(
        "recipes/toy/full.yaml",
        "steps:\n  - {name: run, type: process, with: {name: toyd}}\n",
    );
}
