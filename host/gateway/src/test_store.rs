//! A store in memory for the unit tests of this crate, which can fail on demand.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use host_domain::agent::{Agent, EnrolmentToken, TokenRefused};
use host_domain::command::{Command, CommandOutcome, CommandState};
use host_domain::heartbeat::NodeBeat;
use host_domain::ids::{AgentId, CommandId, NodeId};
use host_domain::key::NodeKey;
use host_domain::node::Node;
use host_domain::node_event::NodeEventEntry;
use host_domain::observation::Observation;
use host_domain::time::Millis;

use crate::store::{
    AgentStore, CommandStore, EnrolOutcome, GatewayStoreError, NodeStore, StoreResult,
};

/// A store in memory.
#[derive(Default)]
pub(crate) struct TestStore {
    fails: AtomicBool,
    revocations_here: AtomicU64,
    revocations_anywhere: AtomicU64,
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    nodes: HashMap<NodeId, Node>,
    keys: Vec<NodeKey>,
    beats: HashMap<NodeId, NodeBeat>,
    seen_agents: HashMap<AgentId, Millis>,
    observations: Vec<(NodeId, Observation)>,
}

impl TestStore {
    /// Lets every following call fail, or none.
    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    pub(crate) fn revoke_here(&self) {
        self.revocations_here.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn revoke_elsewhere(&self) {
        self.revocations_anywhere.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn put_node(&self, node: Node) {
        self.lock().nodes.insert(node.id, node);
    }

    pub(crate) fn put_key(&self, key: NodeKey) {
        self.lock().keys.push(key);
    }

    pub(crate) fn beats(&self) -> Vec<NodeBeat> {
        self.lock().beats.values().cloned().collect()
    }

    pub(crate) fn seen_agents(&self) -> Vec<(AgentId, Millis)> {
        let rows = self.lock();
        rows.seen_agents.iter().map(|(id, at)| (*id, *at)).collect()
    }

    pub(crate) fn n_observations(&self) -> usize {
        self.lock().observations.len()
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap()
    }

    fn rows(&self) -> StoreResult<MutexGuard<'_, Rows>> {
        if self.fails.load(Ordering::SeqCst) {
            let cause = anyhow::anyhow!("the test lets the store fail");
            return Err(GatewayStoreError::Transient(cause));
        }
        Ok(self.lock())
    }
}

#[async_trait]
impl AgentStore for TestStore {
    async fn agent(&self, _: AgentId) -> StoreResult<Option<Agent>> {
        self.rows().map(|_| None)
    }

    async fn enrolment_token(&self, _: &str) -> StoreResult<Option<EnrolmentToken>> {
        self.rows().map(|_| None)
    }

    async fn enrol_agent(&self, _: &str, _: &Agent) -> StoreResult<EnrolOutcome> {
        self.rows()
            .map(|_| EnrolOutcome::Refused(TokenRefused::Foreign))
    }

    async fn renew_agent(&self, _: AgentId, _: Millis, _: Millis) -> StoreResult<bool> {
        self.rows().map(|_| false)
    }

    async fn set_agent_version(&self, _: AgentId, _: &str) -> StoreResult<()> {
        self.rows().map(|_| ())
    }

    fn revocations_here(&self) -> u64 {
        self.revocations_here.load(Ordering::SeqCst)
    }

    async fn revocations_anywhere(&self) -> StoreResult<u64> {
        self.rows()
            .map(|_| self.revocations_anywhere.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl CommandStore for TestStore {
    async fn command(&self, _: CommandId) -> StoreResult<Option<Command>> {
        self.rows().map(|_| None)
    }

    async fn pending_commands(&self, _: AgentId, _: u32) -> StoreResult<Vec<Command>> {
        self.rows().map(|_| Vec::new())
    }

    async fn mark_command_delivered(&self, _: CommandId, _: Millis) -> StoreResult<bool> {
        self.rows().map(|_| false)
    }

    async fn mark_command_accepted(&self, _: CommandId, _: Millis) -> StoreResult<bool> {
        self.rows().map(|_| false)
    }

    async fn finish_command(
        &self,
        _: CommandId,
        _: CommandState,
        _: &CommandOutcome,
        _: Millis,
    ) -> StoreResult<Option<Command>> {
        self.rows().map(|_| None)
    }
}

#[async_trait]
impl NodeStore for TestStore {
    async fn node(&self, id: NodeId) -> StoreResult<Option<Node>> {
        Ok(self.rows()?.nodes.get(&id).cloned())
    }

    async fn node_keys(&self, node: NodeId) -> StoreResult<Vec<NodeKey>> {
        let rows = self.rows()?;
        let keys = rows.keys.iter().filter(|key| key.node_id == node);
        Ok(keys.cloned().collect())
    }

    async fn node_key(&self, node: NodeId, name: &str) -> StoreResult<Option<NodeKey>> {
        let rows = self.rows()?;
        let mut keys = rows.keys.iter();
        let key = keys.find(|key| key.node_id == node && key.name == name);
        Ok(key.cloned())
    }

    async fn record_beats(
        &self,
        beats: &[NodeBeat],
        agents: &[(AgentId, Millis)],
    ) -> StoreResult<()> {
        let mut rows = self.rows()?;
        for beat in beats {
            rows.beats.insert(beat.node_id, beat.clone());
        }
        rows.seen_agents.extend(agents.iter().copied());
        Ok(())
    }

    async fn insert_observations(&self, new: &[(NodeId, Observation)]) -> StoreResult<()> {
        self.rows()?.observations.extend_from_slice(new);
        Ok(())
    }

    async fn append_node_events(
        &self,
        _: &[(NodeEventEntry, Option<String>)],
        _: Millis,
    ) -> StoreResult<()> {
        self.rows().map(|_| ())
    }
}
