//! A host in this process, with chains that a test writes, nodes that nobody has to install, and a second look into its database.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use host_agent::AgentConfig;
use host_domain::ids::{MachineId, NodeId, SubscriptionId};
use host_domain::incident::Incident;
use host_domain::node::{Condition, Node, NodeState, Placement};
use host_domain::observation::{Observation, Scalar};
use host_domain::time::Clock;
use host_runtime::CompileMode;
use host_server::config::Config;
use host_server::host::{Host, HostOptions, Schema};
use host_server::ops::{IncidentFilter, OpError, PluginStats, Principal, Scope};
use host_store::{Db, DbOptions};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

/// A folder with chain configurations and the state of a host.
pub(super) struct Folder(TempDir);

impl Folder {
    /// With the components that misbehave.
    pub(super) fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let components = folder.chains().join("components");
        std::fs::create_dir_all(&components).unwrap();
        for name in [
            "hostile",
            "hostile-notifier",
            "hostile-policy",
            "http-policy",
        ] {
            let bytes = crate::plugins::support::guest(name);
            std::fs::write(components.join(format!("{name}.wasm")), bytes).unwrap();
        }
        folder
    }

    fn chains(&self) -> PathBuf {
        self.0.path().join("chain-configs")
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// Writes or replaces a file at once.
    pub(super) fn write(&self, file: &str, mut content: Value) {
        content["schema_version"] = json!("1.0");
        let path = self.chains().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let beside = path.with_extension("new");
        // JSON is YAML.
        std::fs::write(&beside, content.to_string()).unwrap();
        std::fs::rename(&beside, &path).unwrap();
    }

    /// Declares a chain with these plugins; `observation` says how they are used.
    pub(super) fn chain(&self, id: &str, plugins: &Value, observation: Value) {
        self.profile(id, plugins);
        let ports = json!({ "rpc": { "default": 0 } });
        let process = json!({ "command": "bin/toyd" });
        self.write(
            &format!("chains/{id}/runtime.yaml"),
            json!({ "ports": ports, "process": process }),
        );
        self.write(&format!("chains/{id}/observation.yaml"), observation);
        let step = json!({ "name": "run", "type": "process", "with": { "name": "toyd" } });
        self.write(
            &format!("recipes/{id}/full.yaml"),
            json!({ "steps": [step] }),
        );
    }

    /// Declares the plugins of a chain anew.
    pub(super) fn profile(&self, id: &str, plugins: &Value) {
        let local = json!({ "instance_type": "x", "default_region": "r", "regions": ["r"] });
        let node_type = json!({
            "resources": { "cpu": 1, "memory_gb": 1, "disk_gb": 1 },
            "default_providers": ["local"],
            "providers": { "local": local },
        });
        let profile = json!({
            "chain_id": id, "display_name": id, "network_type": "devnet", "chain_type": "toy",
            "node_types": { "full": node_type }, "plugins": plugins,
        });
        self.write(&format!("chains/{id}/profile.yaml"), profile);
    }
}

/// The policy that misbehaves, with time enough on a busy machine unless all it does is to use it up.
pub(super) fn policy_plugin(config: &Value) -> Value {
    let cpu = if config["act"] == "loop" {
        "100ms"
    } else {
        "2s"
    };
    json!({
        "component": "components/hostile-policy.wasm", "config": config,
        "limits": { "cpu": cpu, "wall": "10s", "memory_mib": 16 },
    })
}

/// Uses of policies, each named as its plugin, which nobody evaluates but the test.
pub(super) fn policies(plugins: &[&str]) -> Value {
    let used = |name: &&str| json!({ "name": name, "plugin": name, "window": "1h", "every": "1h" });
    plugins.iter().map(used).collect()
}

/// A running host.
pub(super) struct Bed {
    pub(super) folder: Arc<Folder>,
    pub(super) host: Host,
    pub(super) db: Db,
    clock: Arc<dyn Clock>,
}

impl Bed {
    pub(super) async fn start(folder: &Arc<Folder>, clock: Arc<dyn Clock>) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_at(folder, clock, any).await
    }

    /// With the agents' gateway at an address.
    pub(super) async fn start_at(
        folder: &Arc<Folder>,
        clock: Arc<dyn Clock>,
        gateway: SocketAddr,
    ) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let mut config = Config {
            state_dir: folder.state(),
            ..Config::default()
        };
        config.chains.dir = folder.chains();
        config.chains.allow_undigested = true;
        config.http.listen = "127.0.0.1:0".parse().unwrap();
        config.gateway.listen = gateway;
        // Nobody beats for nodes that were never installed.
        config.health.heartbeat.evaluation_interval = std::time::Duration::from_hours(1);
        let options = HostOptions {
            compile: CompileMode::InProcess,
            clock: Arc::clone(&clock),
            schema: Schema::Migrate,
            take_over_workflows: false,
        };
        let host = Host::start(config, options).await.unwrap();
        let url = format!(
            "sqlite://{}",
            folder.state().join("bellwether.db").display()
        );
        let db = Db::open(&url, &DbOptions::default()).await.unwrap();
        Self {
            folder: Arc::clone(folder),
            host,
            db,
            clock,
        }
    }

    pub(super) async fn stop(self) {
        self.db.close().await;
        self.host.stop().await;
    }

    /// A healthy node of a chain that nobody made.
    pub(super) async fn node(&self, chain: &str, host: Option<MachineId>) -> NodeId {
        let id = NodeId(Uuid::now_v7());
        let node = Node {
            id,
            subscription_id: SubscriptionId(Uuid::now_v7()),
            name: format!("{chain}-{id}"),
            chain_profile_id: chain.to_owned(),
            node_type: "full".to_owned(),
            condition: Condition {
                state: NodeState::Healthy,
                ..Condition::NEW
            },
            reasons: Vec::new(),
            placement: Placement {
                machine_id: host,
                ..Placement::default()
            },
            ports: BTreeMap::from([("rpc".to_owned(), 1)]),
            binary_versions: BTreeMap::new(),
            inputs: BTreeMap::new(),
            operation_id: None,
            state_version: 1,
            created_at: self.clock.now(),
            updated_at: self.clock.now(),
        };
        let mut tx = self.db.begin().await.unwrap();
        tx.insert_node(&node).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    /// Lets a node have a height.
    pub(super) async fn observe(&self, node: NodeId, height: i64) {
        let observation = Observation {
            name: "node.height".to_owned(),
            value: Scalar::Int(height),
            at: self.clock.now(),
        };
        let mut tx = self.db.begin().await.unwrap();
        tx.insert_observations(&[(node, observation)])
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    /// Incidents of a category that are not resolved.
    pub(super) async fn open(&self, category: &str) -> Vec<Incident> {
        self.incidents(category, true).await
    }

    /// Incidents of a category, all or only those that are not resolved.
    pub(super) async fn incidents(&self, category: &str, unresolved: bool) -> Vec<Incident> {
        let filter = IncidentFilter {
            unresolved,
            category: Some(category.to_owned()),
            ..IncidentFilter::default()
        };
        self.db.list_incidents(&filter, None, 100).await.unwrap()
    }

    pub(super) async fn stats(&self, scope: &str, plugin: &str) -> PluginStats {
        let plugins = self.host.ops.plugins.list().await.unwrap();
        let found = plugins
            .into_iter()
            .find(|view| view.scope == scope && view.plugin == plugin);
        found.unwrap().stats
    }

    pub(super) async fn reload(&self) -> Result<(), OpError> {
        self.host.ops.plugins.reload(&admin()).await.map(drop)
    }

    /// What an agent of this machine is told; it is enrolled by its first start.
    pub(super) async fn agent(&self) -> AgentConfig {
        let agents = &self.host.ops.agents;
        let issued = agents
            .issue_enrolment_token(&admin(), "local")
            .await
            .unwrap();
        let mut config = AgentConfig::new(
            self.folder.0.path().join("agent"),
            format!("https://{}", self.host.gateway),
            self.host.ca_file.clone(),
            "local".to_owned(),
        );
        config.enrolment_token = Some(issued.token);
        config.compile = Some(CompileMode::InProcess);
        config
    }

    /// The machine that [`Self::agent`] runs on.
    pub(super) async fn machine(&self) -> MachineId {
        self.db.machine_by_name("local").await.unwrap().unwrap().id
    }
}

fn admin() -> Principal {
    Principal {
        name: "test".to_owned(),
        scopes: BTreeSet::from([Scope::Admin]),
        request: None,
        request_id: None,
    }
}
