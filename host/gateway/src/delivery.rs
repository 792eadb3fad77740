//! Delivers commands and assignments to an agent: immediately after a wake-up, and by polling in case one was lost.
//!
//! The gateway sends a command in every session until the agent accepts it. The agent's journal ensures that the command
//! runs once; the gateway only ensures that it arrives.

use std::collections::HashSet;
use std::time::Duration;

use host_domain::command::{Command, CommandOutcome, CommandState};
use host_domain::ids::{AgentId, CommandId};
use prost::Message;
use proto::v1;
use proto::v1::host_message::Message as ToAgent;
use tonic::Status;

use crate::convert;
use crate::peer::store_status;
use crate::registry::Signals;
use crate::server::MESSAGE_BYTES_MAX;
use crate::session::{AgentQueue, run_hook};
use crate::shared::Shared;

const PAGE: u32 = 200;
/// Pause after a full page, in which the agent can accept some commands.
const FULL_PAGE_PAUSE: Duration = Duration::from_secs(1);

/// Delivers until the session fails.
pub(crate) async fn deliver(
    shared: &Shared,
    agent_id: AgentId,
    signals: &Signals,
    queue: &AgentQueue,
) -> Status {
    let mut sent = HashSet::new();
    let result = async {
        send_assignments(shared, agent_id, queue).await?;
        loop {
            let pause = send_pending(shared, agent_id, &mut sent, queue).await?;
            tokio::select! {
                () = signals.commands.notified() => {}
                () = signals.assignments.notified() => {
                    send_assignments(shared, agent_id, queue).await?;
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    };
    let ended: Result<std::convert::Infallible, Status> = result.await;
    match ended {
        Err(status) => status,
    }
}

/// The pending commands of a client without a session; marks them as delivered.
pub(crate) async fn take_pending(
    shared: &Shared,
    agent_id: AgentId,
) -> Result<Vec<v1::Command>, Status> {
    let mut commands = Vec::new();
    let mut bytes = 0;
    for command in pending(shared, agent_id).await? {
        if bytes + command.payload.len() > MESSAGE_BYTES_MAX / 2 && bytes > 0 {
            break;
        }
        bytes += command.payload.len();
        if let Some(message) = decode(shared, &command).await?
            && mark_delivered(shared, &command).await?
        {
            commands.push(message);
        }
    }
    Ok(commands)
}

/// Sends the commands that this session has not sent yet, and returns the pause until the next poll.
async fn send_pending(
    shared: &Shared,
    agent_id: AgentId,
    sent: &mut HashSet<CommandId>,
    queue: &AgentQueue,
) -> Result<Duration, Status> {
    let page = pending(shared, agent_id).await?;
    let pause = if page.len() < PAGE as usize {
        // The wake-up for a command of another host may be lost.
        shared.config.poll_interval
    } else {
        FULL_PAGE_PAUSE
    };
    // A command that is not pending never becomes pending again for this agent, so its id is forgotten.
    let waiting: HashSet<CommandId> = page.iter().map(|command| command.id).collect();
    sent.retain(|id| waiting.contains(id));
    for command in page {
        if sent.contains(&command.id) {
            continue;
        }
        let Some(message) = decode(shared, &command).await? else {
            continue;
        };
        if mark_delivered(shared, &command).await? {
            queue.send(ToAgent::Command(message)).await?;
            sent.insert(command.id);
        }
    }
    Ok(pause)
}

async fn send_assignments(
    shared: &Shared,
    agent_id: AgentId,
    queue: &AgentQueue,
) -> Result<(), Status> {
    match shared.parts.assignments.assignments(agent_id).await {
        Ok(assignments) => {
            queue
                .send(ToAgent::Assignments(convert::assignments(assignments)))
                .await
        }
        Err(error) => {
            // The agent keeps its assignments; the next push or session sends the new ones.
            tracing::warn!(agent.id = %agent_id, error = &*error as &dyn std::error::Error, "can't determine the assignments of an agent");
            Ok(())
        }
    }
}

async fn pending(shared: &Shared, agent_id: AgentId) -> Result<Vec<Command>, Status> {
    let commands = shared.store().pending_commands(agent_id, PAGE).await;
    commands.map_err(|error| store_status(&error))
}

/// Decodes a stored command. One that can't be decoded fails, so that its workflow does not wait forever.
async fn decode(shared: &Shared, command: &Command) -> Result<Option<v1::Command>, Status> {
    if let Ok(message) = v1::Command::decode(command.payload.as_slice()) {
        return Ok(Some(message));
    }
    let outcome = CommandOutcome {
        error: "the host can't decode the stored command; start the operation again".to_owned(),
        ..CommandOutcome::default()
    };
    let now = shared.now();
    let finished = shared
        .store()
        .finish_command(command.id, CommandState::Failed, &outcome, now)
        .await;
    if let Some(finished) = finished.map_err(|error| store_status(&error))? {
        let handled = shared.parts.events.command_finished(finished);
        run_hook("command_finished", handled).await;
    }
    Ok(None)
}

/// Marks a command as delivered before it is sent, so that nobody withdraws it any more; `false` when somebody withdrew
/// it first. If the message is lost, the next session sends it again.
async fn mark_delivered(shared: &Shared, command: &Command) -> Result<bool, Status> {
    if command.state != CommandState::Queued {
        return Ok(true);
    }
    let marked = shared
        .store()
        .mark_command_delivered(command.id, shared.now())
        .await;
    marked.map_err(|error| store_status(&error))
}
