//! What an agent says, message by message: checked, stored, acknowledged, told on.
//!
//! What can't be accepted (another host's node, a command of another agent, a bad value) is counted and acknowledged
//! all the same: repeating it would never help, and the agent's queue has to go on. What could not be stored is not
//! acknowledged: the session ends, and the agent says it again in the next.

use std::collections::HashSet;
use std::sync::Arc;

use host_domain::agent::Agent;
use host_domain::command::Command;
use host_domain::ids::CommandId;
use host_domain::time::Millis;
use proto::v1;
use proto::v1::agent_message::Message as FromAgent;
use proto::v1::host_message::Message as ToAgent;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::ingest::ObservationUpdate;
use super::peer::{Peer, recheck, store_status};
use super::scope::Scope;
use super::server::Shared;
use super::session::{Outgoing, hook};
use super::{CollectorFailure, ComponentReport, convert};
use host_store::{BeatRow, NewLogEntry, NodeEventEntry, StoreError, retried};

/// Nodes of one beat, collections of one batch, events of one batch; what is beyond is refused.
const ITEMS_MAX: usize = 1_024;
const PROCESSES_MAX: usize = 64;
const OBSERVATIONS_MAX: usize = 1_000;
const COMMANDS_KNOWN_MAX: usize = 1_024;

/// A batch on its way to the database, and the number by which the agent knows it.
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) updates: Vec<Arc<ObservationUpdate>>,
}

/// The reading half of a session.
pub(super) struct Inbound<'a> {
    shared: &'a Shared,
    peer: Peer,
    scope: Scope,
    /// Commands that were seen to be this agent's.
    own_commands: HashSet<CommandId>,
    outgoing: &'a Outgoing,
    batches: mpsc::Sender<Stored>,
}

impl<'a> Inbound<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        peer: Peer,
        outgoing: &'a Outgoing,
        batches: mpsc::Sender<Stored>,
    ) -> Self {
        let scope = Scope::new(peer.agent.machine_id, shared.now(), shared.config.lease);
        Self {
            shared,
            peer,
            scope,
            own_commands: HashSet::new(),
            outgoing,
            batches,
        }
    }

    /// Reads until the agent ends the session, or has to be sent away.
    pub(super) async fn read_all(mut self, mut incoming: Streaming<v1::AgentMessage>) -> Status {
        loop {
            let message = match incoming.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return Status::ok("the agent ended the session"),
                Err(status) => return status,
            };
            if let Err(status) = self.read(message).await {
                return status;
            }
        }
    }

    async fn read(&mut self, message: v1::AgentMessage) -> Result<(), Status> {
        match message.message {
            Some(FromAgent::Hello(_)) => Err(Status::invalid_argument(
                "a session has one hello, at its beginning",
            )),
            Some(FromAgent::Beat(beat)) => self.beat(beat).await,
            Some(FromAgent::Accepted(accepted)) => self.accepted(&accepted.command_id).await,
            Some(FromAgent::Progress(progress)) => self.progress(progress).await,
            Some(FromAgent::Result(result)) => self.result(result).await,
            Some(FromAgent::Observations(batch)) => self.observations(batch).await,
            Some(FromAgent::Events(batch)) => self.events(batch).await,
            Some(FromAgent::Component(report)) => {
                let report = ComponentReport {
                    digest: convert::label(report.digest),
                    ready: report.ready,
                    error: convert::collector_error(report.error),
                };
                let told = self
                    .shared
                    .parts
                    .events
                    .component_reported(self.peer.agent.id, report);
                hook("component_reported", told).await;
                Ok(())
            }
            // A newer agent may say more than this host knows.
            None => {
                metrics::counter!("gateway_unknown_messages_total").increment(1);
                Ok(())
            }
        }
    }

    async fn beat(&mut self, beat: v1::Beat) -> Result<(), Status> {
        recheck(self.shared, &mut self.peer).await?;
        // Before anything is looked up: what is answered below counts from here at the latest.
        let now = self.shared.now();
        let sequence = beat.sequence;
        let rows = beat_rows(self.shared, &mut self.scope, beat, now).await;
        let rows = rows.map_err(|error| store_status(&error))?;
        let leased = rows.iter().map(|row| row.node_id);
        let leased = leased.filter(|id| self.scope.holds_keys(*id));
        let node_ids: Vec<String> = leased.map(|id| id.to_string()).collect();
        self.shared.beats.push(self.peer.agent.id, now, rows);
        // An agent without numbers keeps no leases, and one without keys needs none.
        if sequence == 0 || node_ids.is_empty() {
            return Ok(());
        }
        let confirmed = v1::BeatConfirmed {
            sequence,
            lease_ms: lease_ms(self.shared),
            node_ids,
        };
        self.outgoing.send(ToAgent::BeatConfirmed(confirmed)).await
    }

    async fn accepted(&mut self, id: &str) -> Result<(), Status> {
        let Some(command) = self.own_command(id).await? else {
            return Ok(());
        };
        let now = self.shared.now();
        let keep = || async {
            let mut tx = self.shared.parts.db.begin().await?;
            let is_new = tx.mark_command_accepted(command.id, now).await?;
            tx.commit().await?;
            Ok(is_new)
        };
        let is_new: bool = retried(keep)
            .await
            .map_err(|error: StoreError| store_status(&error))?;
        if is_new {
            let waited = now.since(command.created_at).as_secs_f64();
            metrics::histogram!("agent_command_latency_seconds").record(waited);
        }
        Ok(())
    }

    async fn progress(&mut self, progress: v1::CommandProgress) -> Result<(), Status> {
        let known = progress
            .command_id
            .parse()
            .ok()
            .filter(|id| self.own_commands.contains(id));
        let id = match known {
            Some(id) => id,
            None => match self.own_command(&progress.command_id).await? {
                Some(command) => command.id,
                None => return Ok(()),
            },
        };
        let told = self
            .shared
            .parts
            .events
            .command_progress(id, convert::progress(progress));
        hook("command_progress", told).await;
        Ok(())
    }

    async fn result(&mut self, result: v1::CommandResult) -> Result<(), Status> {
        let command_id = result.command_id.clone();
        if let Some(command) = self.own_command(&command_id).await? {
            let Some((state, outcome)) = convert::outcome(result) else {
                return Err(Status::invalid_argument("a result says its outcome"));
            };
            let now = self.shared.now();
            let finish = || async {
                let mut tx = self.shared.parts.db.begin().await?;
                tx.finish_command(command.id, state, &outcome, now).await?;
                // The row as it stands: of a result that comes twice, the first one counts.
                let stored = tx.command(command.id).await?;
                tx.commit().await?;
                Ok(stored)
            };
            let stored = retried(finish)
                .await
                .map_err(|error: StoreError| store_status(&error))?;
            // Told before the agent may forget it: after a crash in between, the agent repeats itself and it is told again.
            if let Some(stored) = stored {
                let told = self.shared.parts.events.command_finished(stored);
                hook("command_finished", told).await;
            }
            self.own_commands.remove(&command.id);
        }
        self.outgoing
            .send(ToAgent::ResultStored(v1::ResultStored { command_id }))
            .await
    }

    async fn observations(&mut self, batch: v1::ObservationBatch) -> Result<(), Status> {
        let now = self.shared.now();
        let mut updates = Vec::new();
        refuse_excess("collections", batch.collections.len(), ITEMS_MAX);
        for collection in batch.collections.into_iter().take(ITEMS_MAX) {
            let db = &self.shared.parts.db;
            let own = self.scope.own(db, &collection.node_id, now).await;
            let Some(node_id) = own.map_err(|error| store_status(&error))? else {
                continue;
            };
            let at = Millis(collection.at_ms);
            let n_given = collection.observations.len();
            let observations: Vec<_> = collection
                .observations
                .into_iter()
                .take(OBSERVATIONS_MAX)
                .filter_map(|item| convert::observation(item, at, now))
                .collect();
            refuse_excess("observations", n_given, observations.len());
            if !observations.is_empty() {
                updates.push(Arc::new(ObservationUpdate {
                    node_id,
                    chain: self.scope.chain_of(node_id).map(str::to_owned),
                    observations,
                }));
            }
            if collection.error.is_empty() {
                let collector = convert::label(collection.collector);
                let told = &self.shared.parts.events;
                hook(
                    "collector_worked",
                    told.collector_worked(node_id, &collector),
                )
                .await;
            } else {
                let failure = CollectorFailure {
                    node_id,
                    collector: convert::label(collection.collector),
                    plugin_fault: collection.plugin_fault,
                    is_paused: collection.paused,
                    error: convert::collector_error(collection.error),
                    at,
                };
                hook(
                    "collector_failed",
                    self.shared.parts.events.collector_failed(failure),
                )
                .await;
            }
        }
        let stored = Stored {
            sequence: batch.sequence,
            updates,
        };
        // Waits when too many of this agent's batches are on their way: reading stops, and the agent notices.
        self.batches
            .send(stored)
            .await
            .map_err(|_| Status::cancelled("the session is ending"))
    }

    async fn events(&mut self, batch: v1::NodeEventBatch) -> Result<(), Status> {
        let now = self.shared.now();
        let ids: Vec<String> = batch.events.iter().map(|event| event.id.clone()).collect();
        let mut entries = Vec::new();
        refuse_excess("events", batch.events.len(), ITEMS_MAX);
        for event in batch.events.into_iter().take(ITEMS_MAX) {
            let db = &self.shared.parts.db;
            let own = self.scope.own(db, &event.node_id, now).await;
            let Some(node_id) = own.map_err(|error| store_status(&error))? else {
                continue;
            };
            match convert::node_event(event, node_id, now) {
                Some(entry) => entries.push(entry),
                None => refuse_excess("events", 1, 0),
            }
        }
        retried(|| self.keep_events(&entries, now))
            .await
            .map_err(|error| store_status(&error))?;
        for entry in entries {
            hook("node_event", self.shared.parts.events.node_event(entry)).await;
        }
        self.outgoing
            .send(ToAgent::EventsStored(v1::EventsStored { ids }))
            .await
    }

    async fn keep_events(&self, entries: &[NodeEventEntry], now: Millis) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut tx = self.shared.parts.db.begin().await?;
        let mut new = tx.append_node_events(entries).await?;
        // An agent may say the same twice in one message.
        for entry in entries.iter().filter(|entry| new.remove(&entry.id)) {
            tx.append_event_log(NewLogEntry {
                at: now,
                kind: "node_event".to_owned(),
                node_id: Some(entry.node_id),
                chain: self.scope.chain_of(entry.node_id).map(str::to_owned),
                payload: serde_json::json!({
                    "id": entry.id,
                    "at": entry.at,
                    "kind": entry.kind,
                    "message": entry.message,
                }),
            });
        }
        tx.commit().await
    }

    /// The command, if it is this agent's. What is refused is counted.
    async fn own_command(&mut self, id: &str) -> Result<Option<Command>, Status> {
        let found = match id.parse::<CommandId>() {
            Ok(id) => {
                let found = self.shared.parts.db.command(id).await;
                found.map_err(|error| store_status(&error))?
            }
            Err(_) => None,
        };
        match found {
            Some(command) if command.agent_id == self.peer.agent.id => {
                if self.own_commands.len() >= COMMANDS_KNOWN_MAX {
                    self.own_commands.clear();
                }
                self.own_commands.insert(command.id);
                Ok(Some(command))
            }
            _ => {
                metrics::counter!("gateway_refused_total", "reason" => "foreign_command")
                    .increment(1);
                tracing::warn!(agent.id = %self.peer.agent.id, "an agent spoke of a command that is not its own");
                Ok(None)
            }
        }
    }
}

/// How long processes with keys may run after an answer.
pub(super) fn lease_ms(shared: &Shared) -> u64 {
    u64::try_from(shared.config.lease.as_millis()).unwrap_or(u64::MAX)
}

/// A beat of a client without a session.
pub(super) async fn single_beat(
    shared: &Shared,
    agent: &Agent,
    beat: v1::Beat,
) -> Result<(), Status> {
    let now = shared.now();
    let mut scope = Scope::new(agent.machine_id, now, shared.config.lease);
    let rows = beat_rows(shared, &mut scope, beat, now).await;
    shared
        .beats
        .push(agent.id, now, rows.map_err(|error| store_status(&error))?);
    Ok(())
}

async fn beat_rows(
    shared: &Shared,
    scope: &mut Scope,
    beat: v1::Beat,
    now: Millis,
) -> Result<Vec<BeatRow>, StoreError> {
    let mut rows = Vec::with_capacity(beat.nodes.len().min(ITEMS_MAX));
    refuse_excess("nodes", beat.nodes.len(), ITEMS_MAX);
    for mut status in beat.nodes.into_iter().take(ITEMS_MAX) {
        let Some(node_id) = scope.own(&shared.parts.db, &status.node_id, now).await? else {
            continue;
        };
        status.processes.truncate(PROCESSES_MAX);
        let (processes_json, processes_run) = convert::processes(status.processes);
        rows.push(BeatRow {
            node_id,
            at: now,
            processes_json,
            processes_run,
        });
    }
    Ok(rows)
}

fn refuse_excess(what: &'static str, n_given: usize, n_taken: usize) {
    if let Some(excess) = n_given.checked_sub(n_taken).filter(|excess| *excess > 0) {
        metrics::counter!("gateway_refused_total", "reason" => what).increment(excess as u64);
    }
}
