//! Fixtures for tests inside this crate: services on a real database, with a manual clock.

mod engine;
pub(crate) mod subscriptions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use host_domain::heartbeat::NodeBeat;
use host_domain::ids::{NodeId, SubscriptionId};
use host_domain::incident::{Cause, Incident, Severity, category};
use host_domain::node::{Condition, Node, NodeState, Placement, Reason};
use host_domain::time::{Clock, Millis};
use host_runtime::{
    CompileMode, MemoryKv, NoSecrets, PluginHost, RuntimeConfig, Services as PluginServices,
};
use host_secrets::{PluginSecrets, SecretsConfig};
use sqlx::Connection;
use tempfile::TempDir;
use uuid::Uuid;

use crate::config::Config;
use crate::ops::{IncidentFilter, OpError, Records, Subject, UseCases, raise};
use crate::services::{Opened, Services};
use host_bus::{Bus, InProcess};
use host_keys::KeysConfig;
use host_keys::{KeyBackup, Keyring};
use host_store::{ClaimedEvent, Db, DbOptions};
use host_store::{Databases, Role};
use host_system::write_private;

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub(crate) struct Hand(Arc<AtomicI64>);

impl Clock for Hand {
    fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst))
    }
}

/// The file of the database.
const DATABASE: &str = "test.db";

/// Services without engine, chains and loops.
pub(crate) struct Bed {
    pub(crate) services: Services,
    pub(crate) records: Records,
    pub(crate) ops: UseCases,
    pub(crate) clock: Hand,
    folder: TempDir,
}

impl Bed {
    /// Makes a subscription's row unreadable, behind the store's back.
    pub(crate) async fn spoil_subscription(&self, id: SubscriptionId) {
        let file = self.folder.path().join(DATABASE);
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut connection = sqlx::SqliteConnection::connect_with(&options)
            .await
            .unwrap();
        let spoil = sqlx::query("UPDATE subscriptions SET inputs = 'spoilt' WHERE id = ?");
        let spoilt = spoil
            .bind(id.to_string())
            .execute(&mut connection)
            .await
            .unwrap();
        assert_eq!(spoilt.rows_affected(), 1);
    }

    pub(crate) async fn new() -> Self {
        Self::with_backup(None).await
    }

    pub(crate) async fn with_backup(key_backup: Option<KeyBackup>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join(DATABASE).display());
        let db = Db::open(&url, &DbOptions::default()).await.unwrap();
        db.migrate().await.unwrap();
        let clock = Hand(Arc::new(AtomicI64::new(1_000_000_000)));
        let plugin_services = PluginServices {
            clock: Arc::new(clock.clone()),
            secrets: Arc::new(NoSecrets),
            kv: Arc::new(MemoryKv::default()),
        };
        let runtime = RuntimeConfig::new(folder.path().join("cache"), CompileMode::InProcess);
        let services = Services::new(Opened {
            config: Config::default(),
            clock: Arc::new(clock.clone()),
            databases: Databases::of(&db).await.unwrap(),
            plugins: PluginHost::new(runtime, plugin_services).unwrap(),
            pepper: hmac::Key::new(hmac::HMAC_SHA256, b"pepper"),
            keyring: keyring(&[NEW_MASTER_KEY, OLD_MASTER_KEY]),
            key_backup,
            secrets: no_secrets(Arc::new(clock.clone())),
            worker: "test".to_owned(),
            bus: Bus::InProcess(InProcess::default()),
        });
        Self {
            records: services.records(Role::Api),
            ops: services.use_cases(),
            services,
            clock,
            folder,
        }
    }

    pub(crate) fn wait(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }

    pub(crate) async fn node(&self, state: NodeState) -> Node {
        let now = self.clock.now();
        let node = Node {
            id: NodeId(Uuid::now_v7()),
            subscription_id: SubscriptionId(Uuid::now_v7()),
            name: Uuid::now_v7().to_string(),
            chain_profile_id: "toy".to_owned(),
            node_type: "full".to_owned(),
            condition: Condition {
                state,
                ..Condition::NEW
            },
            reasons: Vec::new(),
            placement: Placement::default(),
            ports: BTreeMap::new(),
            binary_versions: BTreeMap::new(),
            inputs: BTreeMap::new(),
            operation_id: None,
            state_version: 1,
            created_at: now,
            updated_at: now,
        };
        let mut tx = self.records.db.begin().await.unwrap();
        tx.insert_node(&node).await.unwrap();
        tx.expect_beats(node.id, now).await.unwrap();
        tx.commit().await.unwrap();
        node
    }

    pub(crate) async fn beat(&self, node: &Node) {
        let beat = NodeBeat {
            node_id: node.id,
            at: self.clock.now(),
            processes_json: "[]".to_owned(),
            processes_run: true,
        };
        let mut tx = self.records.db.begin().await.unwrap();
        tx.record_beats(&[beat]).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub(crate) async fn claim(&self) -> Vec<ClaimedEvent> {
        let lease = Duration::from_millis(1);
        let mut tx = self.records.db.begin().await.unwrap();
        let claimed = tx.claim_outbox("test", self.clock.now(), lease, 10).await;
        tx.commit().await.unwrap();
        claimed.unwrap()
    }

    pub(crate) async fn raise(&self, severity: Severity) {
        let cause = Cause {
            category: category::PLUGIN_ERROR.to_owned(),
            severity,
            title: "it broke".to_owned(),
            reasons: vec![Reason::new("plugin_error", "it broke")],
        };
        let (subject, now) = (Subject::plugin("toy", severity.as_str()), self.clock.now());
        let mut tx = self.records.db.begin().await.unwrap();
        let catalogue = self.services.chains.catalogue();
        raise(&mut tx, &catalogue, &subject, &cause, now)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    pub(crate) async fn incidents(&self) -> Vec<Incident> {
        let filter = IncidentFilter::default();
        self.records
            .db
            .list_incidents(&filter, None, 10)
            .await
            .unwrap()
    }

    /// Whether a round committed anything, which would wake everybody who waits for changes.
    pub(crate) async fn commits(&self, round: impl Future<Output = Result<(), OpError>>) -> bool {
        let changes = self.records.db.changes();
        round.await.unwrap();
        changes.has_changed().unwrap()
    }
}

/// The newest master key of the bed, and the one before it.
const NEW_MASTER_KEY: u8 = 0xaa;
pub(crate) const OLD_MASTER_KEY: u8 = 0xbb;

/// Master keys of 32 equal bytes each, in a file.
pub(crate) fn keyring(bytes: &[u8]) -> Keyring {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master-keys");
    let lines = bytes.iter().map(|byte| hex::encode([*byte; 32]));
    write_private(&path, lines.collect::<Vec<_>>().join("\n").as_bytes()).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(Hand(Arc::default()));
    Keyring::open(&KeysConfig::default(), folder.path(), &clock).unwrap()
}

fn no_secrets(clock: Arc<dyn Clock>) -> Arc<PluginSecrets> {
    Arc::new(PluginSecrets::new(SecretsConfig::new(), None, clock).unwrap())
}
