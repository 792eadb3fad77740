//! The gateway's store: implements what `host_gateway` needs from the database.

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
use host_gateway::{
    AgentStore, CommandStore, EnrolOutcome, GatewayStoreError, NodeStore, StoreResult,
};

use crate::ops::{LiveData, NodeHappening};
use host_store::{AuditEntry, Db, StoreError, Tx, retried};

/// A machine has one agent; only a repaired database has more than a few.
const REVOKED_MAX: usize = 16;

/// The database, as the gateway uses it.
pub struct GatewayDb {
    db: Db,
}

impl GatewayDb {
    /// Uses the connections of this database.
    pub fn new(db: Db) -> Self {
        Self { db }
    }
}

fn gateway_error(error: StoreError) -> GatewayStoreError {
    if error.is_retryable() {
        GatewayStoreError::Transient(error.into())
    } else {
        GatewayStoreError::Permanent(error.into())
    }
}

#[async_trait]
impl AgentStore for GatewayDb {
    async fn agent(&self, id: AgentId) -> StoreResult<Option<Agent>> {
        self.db.agent(id).await.map_err(gateway_error)
    }

    async fn enrolment_token(&self, hash: &str) -> StoreResult<Option<EnrolmentToken>> {
        self.db.enrolment_token(hash).await.map_err(gateway_error)
    }

    async fn enrol_agent(&self, token_hash: &str, agent: &Agent) -> StoreResult<EnrolOutcome> {
        let outcome = enrol_agent(&self.db, token_hash, agent).await;
        outcome.map_err(gateway_error)
    }

    async fn renew_agent(&self, id: AgentId, not_after: Millis, now: Millis) -> StoreResult<bool> {
        let renew = || async {
            let mut tx = self.db.begin().await?;
            let is_renewed = tx.renew_agent(id, not_after).await?;
            let entry = audit_entry(now, id, "renew_agent", id);
            tx.append_audit(&entry).await?;
            tx.commit().await?;
            Ok(is_renewed)
        };
        retried(renew).await.map_err(gateway_error)
    }

    async fn set_agent_version(&self, id: AgentId, version: &str) -> StoreResult<()> {
        let set = || async {
            let mut tx = self.db.begin().await?;
            tx.set_agent_version(id, version).await?;
            tx.commit().await
        };
        retried(set).await.map_err(gateway_error)
    }

    fn revocations_here(&self) -> u64 {
        self.db.revocations()
    }

    async fn revocations_anywhere(&self) -> StoreResult<u64> {
        self.db.revoked_agents().await.map_err(gateway_error)
    }
}

async fn enrol_agent(db: &Db, token_hash: &str, agent: &Agent) -> Result<EnrolOutcome, StoreError> {
    let now = agent.created_at;
    let mut tx = db.begin().await?;
    if !tx.use_enrolment_token(token_hash, now).await? {
        // Somebody used or revoked the token after the gateway read it.
        let token = tx.enrolment_token(token_hash).await?;
        let reason = token.map_or(Err(TokenRefused::Foreign), |token| token.check(now));
        let reason = reason.err().unwrap_or(TokenRefused::Used);
        return Ok(EnrolOutcome::Refused(reason));
    }
    let revoked = replace_agents(&mut tx, agent).await?;
    tx.commit().await?;
    Ok(EnrolOutcome::Enrolled { revoked })
}

/// Makes the agent the only one of its machine. It takes over the commands of its predecessors.
async fn replace_agents(tx: &mut Tx, agent: &Agent) -> Result<Vec<AgentId>, StoreError> {
    let now = agent.created_at;
    let mut revoked = Vec::new();
    while revoked.len() < REVOKED_MAX
        && let Some(older) = tx.agent_of_machine(agent.machine_id).await?
    {
        tx.revoke_agent(older.id, now).await?;
        revoked.push(older.id);
    }
    tx.insert_agent(agent).await?;
    for older in &revoked {
        tx.hand_over_commands(*older, agent.id, now).await?;
        let entry = audit_entry(now, agent.id, "replace_agent", *older);
        tx.append_audit(&entry).await?;
    }
    let entry = audit_entry(now, agent.id, "enrol_agent", agent.id);
    tx.append_audit(&entry).await?;
    Ok(revoked)
}

fn audit_entry(at: Millis, actor: AgentId, action: &str, object: AgentId) -> AuditEntry {
    AuditEntry {
        seq: 0,
        at,
        actor: format!("agent:{actor}"),
        action: action.to_owned(),
        object: format!("agent/{object}"),
        request_id: None,
        details: serde_json::Value::Null,
    }
}

#[async_trait]
impl CommandStore for GatewayDb {
    async fn command(&self, id: CommandId) -> StoreResult<Option<Command>> {
        self.db.command(id).await.map_err(gateway_error)
    }

    async fn pending_commands(&self, agent: AgentId, limit: u32) -> StoreResult<Vec<Command>> {
        let commands = self.db.pending_commands(agent, limit).await;
        commands.map_err(gateway_error)
    }

    async fn mark_command_delivered(&self, id: CommandId, now: Millis) -> StoreResult<bool> {
        let mark = || async {
            let mut tx = self.db.begin().await?;
            let is_marked = tx.mark_command_delivered(id, now).await?;
            tx.commit().await?;
            Ok(is_marked)
        };
        retried(mark).await.map_err(gateway_error)
    }

    async fn mark_command_accepted(&self, id: CommandId, now: Millis) -> StoreResult<bool> {
        let mark = || async {
            let mut tx = self.db.begin().await?;
            let is_marked = tx.mark_command_accepted(id, now).await?;
            tx.commit().await?;
            Ok(is_marked)
        };
        retried(mark).await.map_err(gateway_error)
    }

    async fn finish_command(
        &self,
        id: CommandId,
        state: CommandState,
        outcome: &CommandOutcome,
        now: Millis,
    ) -> StoreResult<Option<Command>> {
        let finish = || async {
            let mut tx = self.db.begin().await?;
            tx.finish_command(id, state, outcome, now).await?;
            let stored = tx.command(id).await?;
            tx.commit().await?;
            Ok(stored)
        };
        retried(finish).await.map_err(gateway_error)
    }
}

#[async_trait]
impl NodeStore for GatewayDb {
    async fn node(&self, id: NodeId) -> StoreResult<Option<Node>> {
        self.db.node(id).await.map_err(gateway_error)
    }

    async fn node_keys(&self, node: NodeId) -> StoreResult<Vec<NodeKey>> {
        self.db.node_keys(node).await.map_err(gateway_error)
    }

    async fn node_key(&self, node: NodeId, name: &str) -> StoreResult<Option<NodeKey>> {
        self.db.node_key(node, name).await.map_err(gateway_error)
    }

    async fn record_beats(
        &self,
        beats: &[NodeBeat],
        agents: &[(AgentId, Millis)],
    ) -> StoreResult<()> {
        let record = || async {
            let mut tx = self.db.begin().await?;
            if !beats.is_empty() {
                tx.record_beats(beats).await?;
            }
            if !agents.is_empty() {
                tx.touch_agents(agents).await?;
            }
            tx.commit().await
        };
        retried(record).await.map_err(gateway_error)
    }

    async fn insert_observations(&self, rows: &[(NodeId, Observation)]) -> StoreResult<()> {
        let insert = || async {
            let mut tx = self.db.begin().await?;
            tx.insert_observations(rows).await?;
            tx.commit().await
        };
        retried(insert).await.map_err(gateway_error)
    }

    async fn append_node_events(
        &self,
        events: &[(NodeEventEntry, Option<String>)],
        now: Millis,
    ) -> StoreResult<()> {
        let append = || append_node_events(&self.db, events, now);
        retried(append).await.map_err(gateway_error)
    }
}

async fn append_node_events(
    db: &Db,
    events: &[(NodeEventEntry, Option<String>)],
    now: Millis,
) -> Result<(), StoreError> {
    let entries: Vec<NodeEventEntry> = events.iter().map(|(entry, _)| entry.clone()).collect();
    let mut tx = db.begin().await?;
    let mut new = tx.append_node_events(&entries).await?;
    // An agent can repeat an event in one message.
    for (entry, chain) in events.iter().filter(|(entry, _)| new.remove(&entry.id)) {
        let live = LiveData::NodeEvent(NodeHappening::from(entry));
        tx.append_event_log(live.entry(Some(entry.node_id), chain.clone(), now));
    }
    tx.commit().await
}
