//! Commands and assignments on their way to an agent: at once when woken, and from time to time without.
//!
//! A command goes out in every session until the agent says that it has it. The agent's journal makes sure that it runs
//! once; this side only makes sure that it arrives.

use std::collections::HashSet;
use std::time::Duration;

use host_domain::command::{Command, CommandOutcome, CommandState};
use host_domain::ids::{AgentId, CommandId};
use prost::Message;
use proto::v1;
use proto::v1::host_message::Message as ToAgent;
use tonic::Status;

use super::convert;
use super::hub::Wakes;
use super::peer::store_status;
use super::server::{MESSAGE_BYTES_MAX, Shared};
use super::session::{Outgoing, hook};
use host_store::{StoreError, retried};

const PAGE: u32 = 200;
/// There are more than a page: look again as soon as the agent may have taken some.
const LOOK_SOON: Duration = Duration::from_secs(1);

/// Sends for as long as the session lasts.
pub(super) async fn deliver(
    shared: &Shared,
    agent_id: AgentId,
    wakes: &Wakes,
    outgoing: &Outgoing,
) -> Status {
    let mut sent = HashSet::new();
    let result = async {
        send_assignments(shared, agent_id, outgoing).await?;
        loop {
            let pause = send_pending(shared, agent_id, &mut sent, outgoing).await?;
            tokio::select! {
                () = wakes.commands.notified() => {}
                () = wakes.assignments.notified() => {
                    send_assignments(shared, agent_id, outgoing).await?;
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

/// What waits for the agent, for a client without a session; marked as delivered.
pub(super) async fn take_pending(
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

/// Sends what was not sent in this session yet, and says when to look again.
async fn send_pending(
    shared: &Shared,
    agent_id: AgentId,
    sent: &mut HashSet<CommandId>,
    outgoing: &Outgoing,
) -> Result<Duration, Status> {
    let page = pending(shared, agent_id).await?;
    let pause = if page.len() < PAGE as usize {
        // Another process may have queued a command, and its wake-up may be lost.
        shared.config.look_interval
    } else {
        LOOK_SOON
    };
    // What is not pending any more never comes back here, so its id need not be kept.
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
            outgoing.send(ToAgent::Command(message)).await?;
            sent.insert(command.id);
        }
    }
    Ok(pause)
}

async fn send_assignments(
    shared: &Shared,
    agent_id: AgentId,
    outgoing: &Outgoing,
) -> Result<(), Status> {
    match shared.parts.assignments.assignments(agent_id).await {
        Ok(assignments) => {
            outgoing
                .send(ToAgent::Assignments(convert::assignments(assignments)))
                .await
        }
        Err(error) => {
            // The agent goes on with what it has; the next push or session brings the rest.
            tracing::warn!(agent.id = %agent_id, error = &*error as &dyn std::error::Error, "no assignments for an agent");
            Ok(())
        }
    }
}

async fn pending(shared: &Shared, agent_id: AgentId) -> Result<Vec<Command>, Status> {
    let db = &shared.parts.db;
    db.pending_commands(agent_id, PAGE)
        .await
        .map_err(|error| store_status(&error))
}

/// The stored message; one that can't be read is over as failed, so that its workflow does not wait for nothing.
async fn decode(shared: &Shared, command: &Command) -> Result<Option<v1::Command>, Status> {
    if let Ok(message) = v1::Command::decode(command.payload.as_slice()) {
        return Ok(Some(message));
    }
    let outcome = CommandOutcome {
        error: "the stored command can't be read; start the operation anew".to_owned(),
        ..CommandOutcome::default()
    };
    let now = shared.now();
    let finish = || async {
        let mut tx = shared.parts.db.begin().await?;
        tx.finish_command(command.id, CommandState::Failed, &outcome, now)
            .await?;
        tx.commit().await?;
        shared.parts.db.command(command.id).await
    };
    if let Some(over) = retried(finish)
        .await
        .map_err(|error| store_status(&error))?
    {
        hook(
            "command_finished",
            shared.parts.events.command_finished(over),
        )
        .await;
    }
    Ok(None)
}

/// Says that a command is on its way, before it is: from here on nobody takes it back. `false` when somebody just did.
/// One that is lost on the way is sent again in the next session.
async fn mark_delivered(shared: &Shared, command: &Command) -> Result<bool, Status> {
    if command.state != CommandState::Queued {
        return Ok(true);
    }
    let mark = || async {
        let mut tx = shared.parts.db.begin().await?;
        let is_marked = tx.mark_command_delivered(command.id, shared.now()).await?;
        tx.commit().await?;
        Ok::<_, StoreError>(is_marked)
    };
    retried(mark).await.map_err(|error| store_status(&error))
}
