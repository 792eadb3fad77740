//! A gateway on a free port with its own database, clock and authority, and a record of the events it reported.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use host_domain::agent::{EnrolmentToken, Machine};
use host_domain::command::{Command, CommandState};
use host_domain::ids::{AgentId, CommandId, MachineId, NodeId, SubscriptionId};
use host_domain::node::{Condition, Node, Placement};
use host_domain::node_event::NodeEventEntry;
use host_domain::time::Clock;
use host_gateway::{
    AgentAssignments, AssignmentSource, CertificateAuthority, CollectorFailure, CommandProgress,
    Gateway, GatewayConfig, GatewayEvents, GatewayOptions, GatewayParts, ObservationUpdate, Order,
    Sessions, encode_command,
};
use host_server::gateway_store::GatewayDb;
use host_store::{Db, DbOptions};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use uuid::Uuid;

use crate::support::fake_agent::{FakeAgent, PATIENCE};
use crate::support::fake_clock::FakeClock;

pub(crate) struct Bed {
    pub(crate) folder: TempDir,
    pub(crate) db: Db,
    pub(crate) clock: FakeClock,
    pub(crate) gateway: Gateway,
    pub(crate) authority: Arc<CertificateAuthority>,
    pub(crate) sessions: Sessions,
    pub(crate) events: Arc<RecordedEvents>,
    pub(crate) source: Arc<Source>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// The events that the gateway reported, one line each.
#[derive(Default)]
pub(crate) struct RecordedEvents(Mutex<Vec<String>>);

/// Assignments that a test sets.
#[derive(Default)]
pub(crate) struct Source(Mutex<AgentAssignments>);

impl Bed {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut GatewayOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let db = Db::open(&url, &DbOptions::default()).await.unwrap();
        db.migrate().await.unwrap();
        let clock = FakeClock::new();
        let state = folder.path().join("gateway");
        let authority = Arc::new(CertificateAuthority::open(&state, &clock).unwrap());
        let config = GatewayConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            ..GatewayConfig::default()
        };
        let mut options = GatewayOptions {
            beat_flush_interval: Duration::from_millis(10),
            stop_grace: Duration::from_secs(2),
            ..GatewayOptions::default()
        };
        change(&mut options);
        let sessions = Sessions::new();
        let (events, source) = (Arc::<RecordedEvents>::default(), Arc::<Source>::default());
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let components = folder.path().join("components");
        let parts = GatewayParts {
            store: Arc::new(GatewayDb::new(db.clone())),
            clock: Arc::new(clock.clone()),
            authority: Arc::clone(&authority),
            sessions: sessions.clone(),
            events: events.clone(),
            assignments: source.clone(),
            components: Arc::new(move |digest| Some(components.join(digest))),
            // The host's tests cover how it opens keys; the gateway only sends them.
            keys: Arc::new(|key| Box::pin(async move { Ok(key.sealed.material.into()) })),
            awaits_key_import: Arc::new(|_, name| name == "brought"),
            shutdown: shutdown.clone(),
            tasks: tasks.clone(),
        };
        let gateway = Gateway::start(config, options, parts).await.unwrap();
        Self {
            folder,
            db,
            clock,
            gateway,
            authority,
            sessions,
            events,
            source,
            shutdown,
            tasks,
        }
    }

    pub(crate) async fn host(&self, name: &str) -> MachineId {
        let host = Machine {
            id: MachineId(Uuid::now_v7()),
            name: name.to_owned(),
            provider: "local".to_owned(),
            region: "here".to_owned(),
            ip: None,
            created_at: self.clock.now(),
        };
        let mut tx = self.db.begin().await.unwrap();
        tx.insert_machine(&host).await.unwrap();
        tx.commit().await.unwrap();
        host.id
    }

    pub(crate) async fn node(&self, host: MachineId) -> NodeId {
        let id = NodeId(Uuid::now_v7());
        let node = Node {
            id,
            subscription_id: SubscriptionId(Uuid::now_v7()),
            name: id.to_string(),
            chain_profile_id: "chain-a".to_owned(),
            node_type: "full".to_owned(),
            condition: Condition::NEW,
            reasons: Vec::new(),
            placement: Placement {
                machine_id: Some(host),
                ..Placement::default()
            },
            ports: BTreeMap::new(),
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

    /// A token for the host's agent, good for 15 minutes.
    pub(crate) async fn token(&self, host: MachineId) -> String {
        self.token_for(host, None).await
    }

    /// The same, issued for a node.
    pub(crate) async fn token_for(&self, host: MachineId, node: Option<NodeId>) -> String {
        let token = format!("token-{}", Uuid::now_v7());
        let mut tx = self.db.begin().await.unwrap();
        tx.insert_enrolment_token(&EnrolmentToken {
            hash: token_hash(&token),
            machine_id: host,
            node_id: node,
            expires_at: self.clock.now().plus(Duration::from_mins(15)),
            used_at: None,
            revoked_at: None,
        })
        .await
        .unwrap();
        tx.commit().await.unwrap();
        token
    }

    pub(crate) async fn enrol(&self, token: &str) -> Result<FakeAgent, Status> {
        FakeAgent::enrol(
            self.gateway.local_addr(),
            self.authority.certificate_pem(),
            token,
        )
        .await
    }

    /// A host with an enrolled agent and one node.
    pub(crate) async fn agent(&self, host: &str) -> (FakeAgent, NodeId) {
        let host = self.host(host).await;
        let agent = self.enrol(&self.token(host).await).await.unwrap();
        (agent, self.node(host).await)
    }

    /// Queues a command and wakes the agent's session.
    pub(crate) async fn queue(&self, agent: AgentId, node: NodeId, order: Order) -> CommandId {
        let id = CommandId(Uuid::now_v7());
        let now = self.clock.now();
        let deadline = now.plus(Duration::from_mins(10));
        let command = Command {
            id,
            node_id: node,
            agent_id: agent,
            kind: order.kind(),
            payload: encode_command(id, node, deadline, &order).unwrap(),
            state: CommandState::Queued,
            result: None,
            workflow_id: None,
            mailbox: None,
            deadline,
            created_at: now,
            updated_at: now,
        };
        let mut tx = self.db.begin().await.unwrap();
        assert!(tx.insert_command(&command).await.unwrap());
        tx.commit().await.unwrap();
        self.sessions.notify(agent);
        id
    }

    pub(crate) async fn command(&self, id: CommandId) -> Command {
        self.db.command(id).await.unwrap().unwrap()
    }

    pub(crate) async fn wait_for_state(&self, id: CommandId, state: CommandState) {
        until(&format!("command state `{state}`"), async || {
            self.command(id).await.state == state
        })
        .await;
    }

    pub(crate) async fn beats(&self, node: NodeId) -> i64 {
        self.db
            .heartbeat(node)
            .await
            .unwrap()
            .map_or(0, |heartbeat| heartbeat.beats)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Source {
    pub(crate) fn set(&self, assignments: AgentAssignments) {
        *self.0.lock().unwrap() = assignments;
    }
}

#[async_trait]
impl AssignmentSource for Source {
    async fn assignments(&self, _: AgentId) -> anyhow::Result<AgentAssignments> {
        Ok(self.0.lock().unwrap().clone())
    }
}

impl RecordedEvents {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn record(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

#[async_trait]
impl GatewayEvents for RecordedEvents {
    async fn agent_connected(&self, agent_id: AgentId) {
        self.record(format!("connected {agent_id}"));
    }

    async fn agent_disconnected(&self, agent_id: AgentId) {
        self.record(format!("disconnected {agent_id}"));
    }

    async fn command_progress(&self, id: CommandId, progress: CommandProgress) {
        self.record(format!(
            "progress {id} {} {:?}",
            progress.step, progress.fraction
        ));
    }

    async fn command_finished(&self, command: Command) {
        self.record(format!("finished {} {}", command.id, command.state));
    }

    async fn collector_failed(&self, failure: CollectorFailure) {
        self.record(format!(
            "collector {} {} {}",
            failure.collector, failure.plugin_fault, failure.error
        ));
    }

    async fn node_event(&self, event: NodeEventEntry) {
        self.record(format!("event {} {}", event.id, event.kind));
    }

    async fn observations_stored(&self, update: &ObservationUpdate) {
        let n_observations = update.observations.len();
        self.record(format!("observed {} {n_observations}", update.node_id));
    }
}

pub(crate) fn token_hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// Waits until something is so, and says what did not come.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, wait).await.is_ok(),
        "{what} did not come within {PATIENCE:?}"
    );
}
