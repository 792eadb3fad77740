//! One agent's session: hello, then three streams of work side by side until one of them ends or somebody ends it.
//!
//! What the agent says is read in order; commands and assignments go out when they are there; observations are stored
//! beside both, so that a slow database delays no beat. Each queue is bounded: an agent that sends too much waits, and
//! one that does not read is dropped, to come back and get everything again that it has not acknowledged.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use proto::v1::agent_message::Message as FromAgent;
use proto::v1::host_message::Message as ToAgent;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::hub::{Ending, Seat};
use super::inbound::{Inbound, Stored};
use super::peer::{Peer, revoked, store_status};
use super::server::Shared;
use super::{convert, delivery};
use host_store::retried;

const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
const HOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Batches of observations that one agent may have on their way to the database.
const BATCHES: usize = 8;

/// Both directions of a session.
pub(super) struct Wires {
    pub(super) incoming: Streaming<v1::AgentMessage>,
    pub(super) outgoing: mpsc::Sender<Result<v1::HostMessage, Status>>,
}

/// The way to the agent: a bounded queue, and a limit to waiting for it.
#[derive(Clone)]
pub(super) struct Outgoing {
    queue: mpsc::Sender<Result<v1::HostMessage, Status>>,
    timeout: Duration,
}

impl Outgoing {
    /// Queues a message; an agent that takes none for too long has lost its session.
    pub(super) async fn send(&self, message: ToAgent) -> Result<(), Status> {
        let message = v1::HostMessage {
            message: Some(message),
        };
        match tokio::time::timeout(self.timeout, self.queue.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::cancelled("the agent hung up")),
            Err(_) => {
                metrics::counter!("gateway_slow_agents_total").increment(1);
                Err(Status::deadline_exceeded(
                    "the agent reads too slowly; connect again",
                ))
            }
        }
    }
}

/// Serves a session to its end and tells the agent why it ended.
pub(super) async fn run(
    shared: Arc<Shared>,
    peer: Peer,
    seat: Seat,
    wires: Wires,
    stop: CancellationToken,
) {
    let agent_id = peer.agent.id;
    let outgoing = Outgoing {
        queue: wires.outgoing.clone(),
        timeout: shared.config.send_timeout,
    };
    let status = tokio::select! {
        biased;
        () = stop.cancelled() => stopping(),
        ending = seat.ended() => ending_status(ending),
        () = wires.outgoing.closed() => Status::cancelled("the agent hung up"),
        status = greet_and_talk(&shared, peer, &seat, wires.incoming, &outgoing) => status,
    };
    tracing::info!(agent.id = %agent_id, reason = status.message(), "an agent's session ended");
    let was_newest = seat.is_newest();
    drop(seat);
    let connected = shared.parts.sessions.connected();
    metrics::gauge!("agent_connected").set(u32::try_from(connected).unwrap_or(u32::MAX));
    // An agent that does not read, or is gone, does not hear it.
    let _unheard = tokio::time::timeout(GOODBYE_TIMEOUT, wires.outgoing.send(Err(status))).await;
    // It may have come back while it was told goodbye.
    if was_newest && !shared.parts.sessions.is_connected(agent_id) {
        hook(
            "agent_disconnected",
            shared.parts.events.agent_disconnected(agent_id),
        )
        .await;
    }
}

/// What an agent hears when the host stops.
pub(super) fn stopping() -> Status {
    Status::unavailable("the host is stopping; connect again in a few seconds")
}

fn ending_status(ending: Ending) -> Status {
    match ending {
        Ending::Replaced => Status::aborted("this agent connected anew; run it once only"),
        Ending::Revoked => revoked(),
        Ending::Shutdown => stopping(),
    }
}

/// Tells somebody, but never for long.
pub(super) async fn hook(name: &'static str, told: impl Future<Output = ()>) {
    if tokio::time::timeout(HOOK_TIMEOUT, told).await.is_err() {
        metrics::counter!("gateway_hook_timeouts_total", "hook" => name).increment(1);
        tracing::warn!(hook = name, "nobody listened in time to what an agent said");
    }
}

/// Both loops and the store run in this one task: when one ends, all end.
async fn greet_and_talk(
    shared: &Shared,
    mut peer: Peer,
    seat: &Seat,
    mut incoming: Streaming<v1::AgentMessage>,
    outgoing: &Outgoing,
) -> Status {
    if let Err(status) = greet(shared, &mut peer, &mut incoming, outgoing).await {
        return status;
    }
    let agent_id = peer.agent.id;
    let (batches, to_store) = mpsc::channel(BATCHES);
    let inbound = Inbound::new(shared, peer, outgoing, batches);
    tokio::select! {
        status = inbound.read_all(incoming) => status,
        status = delivery::deliver(shared, agent_id, seat.wakes(), outgoing) => status,
        status = store_all(shared, to_store, outgoing) => status,
    }
}

async fn greet(
    shared: &Shared,
    peer: &mut Peer,
    incoming: &mut Streaming<v1::AgentMessage>,
    outgoing: &Outgoing,
) -> Result<(), Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no hello came; say hello first"))??;
    let Some(v1::AgentMessage {
        message: Some(FromAgent::Hello(hello)),
    }) = first
    else {
        return Err(Status::invalid_argument(
            "the first message of a session is a hello",
        ));
    };
    let now = shared.now();
    let agent_id = peer.agent.id;
    let version = convert::label(hello.facts.unwrap_or_default().version);
    if !version.is_empty() && version != peer.agent.version {
        let keep = || async {
            let mut tx = shared.parts.db.begin().await?;
            tx.set_agent_version(agent_id, &version).await?;
            tx.commit().await
        };
        retried(keep).await.map_err(|error| store_status(&error))?;
    }
    shared.beats.push(agent_id, now, Vec::new());
    let beat_ms = u32::try_from(shared.config.beat_interval.as_millis()).unwrap_or(u32::MAX);
    outgoing
        .send(ToAgent::Welcome(v1::Welcome {
            beat_interval_ms: beat_ms,
            now_ms: now.0,
        }))
        .await?;
    let connected = shared.parts.sessions.connected();
    metrics::gauge!("agent_connected").set(u32::try_from(connected).unwrap_or(u32::MAX));
    tracing::info!(agent.id = %agent_id, host.id = %peer.agent.machine_id, "an agent connected");
    hook(
        "agent_connected",
        shared.parts.events.agent_connected(agent_id),
    )
    .await;
    Ok(())
}

/// Stores this agent's observations in their order and says so only then.
async fn store_all(
    shared: &Shared,
    mut batches: mpsc::Receiver<Stored>,
    outgoing: &Outgoing,
) -> Status {
    while let Some(batch) = batches.recv().await {
        if shared.ingester.store(batch.updates.clone()).await.is_err() {
            return Status::unavailable(
                "the host could not store the observations; connect again and repeat them",
            );
        }
        let stored = v1::ObservationsStored {
            sequence: batch.sequence,
        };
        if let Err(status) = outgoing.send(ToAgent::ObservationsStored(stored)).await {
            return status;
        }
        for update in &batch.updates {
            hook(
                "observations_stored",
                shared.parts.events.observations_stored(update),
            )
            .await;
        }
    }
    Status::ok("")
}
