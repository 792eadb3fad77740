//! Reads what an agent sends, message by message: validates, stores, acknowledges and reports it to the host.
//!
//! The gateway counts and acknowledges what it refuses (a node of another machine, a command of another agent, an invalid
//! value): repeating it can't help, and the agent's queue must move on. It does not acknowledge what it could not store:
//! the session ends, and the agent sends it again in the next one.

mod beats;
mod events;
mod observations;

pub(crate) use beats::single_beat;
pub(crate) use observations::Batch;

use std::collections::HashSet;

use host_domain::command::Command;
use host_domain::ids::CommandId;
use proto::v1;
use proto::v1::agent_message::Message as FromAgent;
use proto::v1::host_message::Message as ToAgent;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::events::ComponentReport;
use crate::peer::{Peer, store_status};
use crate::scope::Scope;
use crate::session::{AgentQueue, run_hook};
use crate::shared::Shared;
use crate::{convert, metrics};

/// Limit of the nodes in a beat, the collections in a batch and the events in a batch.
const ITEMS_MAX: usize = 1_024;
const COMMANDS_KNOWN_MAX: usize = 1_024;

/// The reading half of a session.
pub(crate) struct Inbound<'a> {
    shared: &'a Shared,
    peer: Peer,
    scope: Scope,
    /// Commands that the session has verified to be this agent's.
    own_commands: HashSet<CommandId>,
    queue: &'a AgentQueue,
    batches: mpsc::Sender<Batch>,
}

impl<'a> Inbound<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        peer: Peer,
        queue: &'a AgentQueue,
        batches: mpsc::Sender<Batch>,
    ) -> Self {
        let scope = Scope::new(peer.agent.machine_id, shared.now(), shared.options.lease);
        Self {
            shared,
            peer,
            scope,
            own_commands: HashSet::new(),
            queue,
            batches,
        }
    }

    /// Reads until the agent ends the session, or the session fails.
    pub(crate) async fn read_all(mut self, mut incoming: Streaming<v1::AgentMessage>) -> Status {
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
                "only the first message of a session may be a hello",
            )),
            Some(FromAgent::Beat(beat)) => self.beat(beat).await,
            Some(FromAgent::Accepted(accepted)) => self.accepted(&accepted.command_id).await,
            Some(FromAgent::Progress(progress)) => self.progress(progress).await,
            Some(FromAgent::Result(result)) => self.result(result).await,
            Some(FromAgent::Observations(batch)) => self.observations(batch).await,
            Some(FromAgent::Events(batch)) => self.events(batch).await,
            Some(FromAgent::Component(report)) => {
                self.component(report).await;
                Ok(())
            }
            // A newer agent can send kinds of messages that this host does not know.
            None => {
                metrics::unknown_message();
                Ok(())
            }
        }
    }

    async fn component(&self, report: v1::ComponentReport) {
        let report = ComponentReport {
            digest: convert::label(report.digest),
            ready: report.ready,
            error: convert::collector_error(report.error),
        };
        let events = &self.shared.parts.events;
        let handled = events.component_reported(self.peer.agent.id, report);
        run_hook("component_reported", handled).await;
    }

    async fn accepted(&mut self, id: &str) -> Result<(), Status> {
        let Some(command) = self.own_command(id).await? else {
            return Ok(());
        };
        let (store, now) = (self.shared.store(), self.shared.now());
        let is_new = store.mark_command_accepted(command.id, now).await;
        if is_new.map_err(|error| store_status(&error))? {
            metrics::command_accepted_after(now.since(command.created_at).as_secs_f64());
        }
        Ok(())
    }

    async fn progress(&mut self, progress: v1::CommandProgress) -> Result<(), Status> {
        let known = progress.command_id.parse().ok();
        let id = match known.filter(|id| self.own_commands.contains(id)) {
            Some(id) => id,
            None => match self.own_command(&progress.command_id).await? {
                Some(command) => command.id,
                None => return Ok(()),
            },
        };
        let events = &self.shared.parts.events;
        let handled = events.command_progress(id, convert::progress(progress));
        run_hook("command_progress", handled).await;
        Ok(())
    }

    async fn result(&mut self, result: v1::CommandResult) -> Result<(), Status> {
        let command_id = result.command_id.clone();
        if let Some(command) = self.own_command(&command_id).await? {
            let Some((state, outcome)) = convert::outcome(result) else {
                return Err(Status::invalid_argument("a result must have an outcome"));
            };
            let (store, now) = (self.shared.store(), self.shared.now());
            // Returns the stored result: the first one counts when the agent repeats it.
            let stored = store
                .finish_command(command.id, state, &outcome, now)
                .await
                .map_err(|error| store_status(&error))?;
            // Reported before the agent may forget the result: after a crash in between, the agent sends it again.
            if let Some(stored) = stored {
                let handled = self.shared.parts.events.command_finished(stored);
                run_hook("command_finished", handled).await;
            }
            self.own_commands.remove(&command.id);
        }
        self.queue
            .send(ToAgent::ResultStored(v1::ResultStored { command_id }))
            .await
    }

    /// The command, if it is this agent's. Refusals are counted.
    async fn own_command(&mut self, id: &str) -> Result<Option<Command>, Status> {
        let found = match id.parse::<CommandId>() {
            Ok(id) => {
                let found = self.shared.store().command(id).await;
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
                metrics::refused("foreign_command", 1);
                tracing::warn!(agent.id = %self.peer.agent.id, "refused a report on a command that is not the agent's");
                Ok(None)
            }
        }
    }
}

fn refuse_excess(reason: &'static str, n_received: usize, n_accepted: usize) {
    let excess = n_received.checked_sub(n_accepted);
    if let Some(excess) = excess.filter(|excess| *excess > 0) {
        metrics::refused(reason, excess as u64);
    }
}
