//! One agent's session: a hello, then three tasks side by side until one of them fails or the host ends the session.
//!
//! The session reads the agent's messages in order, sends commands and assignments when they exist, and stores
//! observations beside both, so that a slow database delays no beat. Each queue is bounded: an agent that sends too much
//! waits, and one that does not read loses its session. It connects again and receives everything that it has not
//! acknowledged.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use host_domain::ids::AgentId;
use proto::v1;
use proto::v1::agent_message::Message as FromAgent;
use proto::v1::host_message::Message as ToAgent;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::inbound::{Batch, Inbound};
use crate::peer::{Peer, revoked, store_status};
use crate::registry::{EndReason, Registration};
use crate::shared::Shared;
use crate::{convert, delivery, metrics};

const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
const HOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Batches of observations of one agent that may wait for the database.
const BATCHES: usize = 8;

/// Both directions of a session.
pub(crate) struct Streams {
    pub(crate) incoming: Streaming<v1::AgentMessage>,
    pub(crate) outgoing: mpsc::Sender<Result<v1::HostMessage, Status>>,
}

/// The bounded queue of messages to the agent, with a timeout.
#[derive(Clone)]
pub(crate) struct AgentQueue {
    queue: mpsc::Sender<Result<v1::HostMessage, Status>>,
    timeout: Duration,
}

impl AgentQueue {
    /// Queues a message. The session ends when the agent receives nothing for too long.
    pub(crate) async fn send(&self, message: ToAgent) -> Result<(), Status> {
        let message = v1::HostMessage {
            message: Some(message),
        };
        match tokio::time::timeout(self.timeout, self.queue.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(disconnected()),
            Err(_) => {
                metrics::slow_agent();
                Err(Status::deadline_exceeded(
                    "the agent reads too slowly; connect again",
                ))
            }
        }
    }
}

/// Serves a session until it ends, and sends the reason to the agent.
pub(crate) async fn run(
    shared: Arc<Shared>,
    peer: Peer,
    registration: Registration,
    streams: Streams,
    stop: CancellationToken,
) {
    let agent_id = peer.agent.id;
    let queue = AgentQueue {
        queue: streams.outgoing.clone(),
        timeout: shared.options.send_timeout,
    };
    let status = tokio::select! {
        biased;
        () = stop.cancelled() => stopping(),
        reason = registration.ended() => end_status(reason),
        () = streams.outgoing.closed() => disconnected(),
        status = greet_and_talk(&shared, peer, &registration, streams.incoming, &queue) => status,
    };
    tracing::info!(agent.id = %agent_id, reason = status.message(), "an agent's session ended");
    let was_newest = registration.is_newest();
    drop(registration);
    metrics::agents_connected(shared.parts.sessions.connected());
    // An agent that does not read, or has disconnected, does not receive it.
    let _unread = tokio::time::timeout(GOODBYE_TIMEOUT, streams.outgoing.send(Err(status))).await;
    // The agent can connect again while the goodbye is sent.
    if was_newest && !shared.parts.sessions.is_connected(agent_id) {
        let handled = shared.parts.events.agent_disconnected(agent_id);
        run_hook("agent_disconnected", handled).await;
    }
}

/// The answer to an agent when the host stops.
pub(crate) fn stopping() -> Status {
    Status::unavailable("the host is stopping; connect again in a few seconds")
}

fn disconnected() -> Status {
    Status::cancelled("the agent disconnected")
}

fn end_status(reason: EndReason) -> Status {
    match reason {
        EndReason::Replaced => {
            Status::aborted("this agent connected again; run only one process of it")
        }
        EndReason::Revoked => revoked(),
        EndReason::Shutdown => stopping(),
    }
}

/// Runs a handler of the host with a timeout.
pub(crate) async fn run_hook(name: &'static str, handler: impl Future<Output = ()>) {
    if tokio::time::timeout(HOOK_TIMEOUT, handler).await.is_err() {
        metrics::hook_timeout(name);
        tracing::warn!(
            hook = name,
            "the host did not handle an agent's report in time"
        );
    }
}

/// All parts of the session run in this one task: when one ends, all end.
async fn greet_and_talk(
    shared: &Shared,
    peer: Peer,
    registration: &Registration,
    mut incoming: Streaming<v1::AgentMessage>,
    queue: &AgentQueue,
) -> Status {
    if let Err(status) = greet(shared, &peer, &mut incoming, queue).await {
        return status;
    }
    let agent_id = peer.agent.id;
    let (batches, received) = mpsc::channel(BATCHES);
    let inbound = Inbound::new(shared, peer, queue, batches);
    tokio::select! {
        status = inbound.read_all(incoming) => status,
        status = delivery::deliver(shared, agent_id, registration.signals(), queue) => status,
        status = store_all(shared, received, queue) => status,
    }
}

async fn greet(
    shared: &Shared,
    peer: &Peer,
    incoming: &mut Streaming<v1::AgentMessage>,
    queue: &AgentQueue,
) -> Result<(), Status> {
    let hello = read_hello(incoming).await?;
    let now = shared.now();
    let agent_id = peer.agent.id;
    let version = convert::label(hello.facts.unwrap_or_default().version);
    if !version.is_empty() && version != peer.agent.version {
        let kept = shared.store().set_agent_version(agent_id, &version).await;
        kept.map_err(|error| store_status(&error))?;
    }
    shared.beats.push(agent_id, now, Vec::new());
    let beat_ms = u32::try_from(shared.options.beat_interval.as_millis()).unwrap_or(u32::MAX);
    queue
        .send(ToAgent::Welcome(v1::Welcome {
            beat_interval_ms: beat_ms,
            now_ms: now.0,
        }))
        .await?;
    report_connected(shared, agent_id).await;
    Ok(())
}

async fn read_hello(incoming: &mut Streaming<v1::AgentMessage>) -> Result<v1::Hello, Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the agent sent no hello in time"))??;
    match first.and_then(|first| first.message) {
        Some(FromAgent::Hello(hello)) => Ok(hello),
        _ => Err(Status::invalid_argument(
            "the first message of a session must be a hello",
        )),
    }
}

async fn report_connected(shared: &Shared, agent_id: AgentId) {
    metrics::agents_connected(shared.parts.sessions.connected());
    tracing::info!(agent.id = %agent_id, "an agent connected");
    let handled = shared.parts.events.agent_connected(agent_id);
    run_hook("agent_connected", handled).await;
}

/// Stores the agent's batches in order, and acknowledges each only when it is stored.
async fn store_all(
    shared: &Shared,
    mut batches: mpsc::Receiver<Batch>,
    queue: &AgentQueue,
) -> Status {
    while let Some(batch) = batches.recv().await {
        if shared.ingester.store(batch.updates.clone()).await.is_err() {
            return Status::unavailable(
                "the host can't store the observations; connect again and send them again",
            );
        }
        let stored = v1::ObservationsStored {
            sequence: batch.sequence,
        };
        if let Err(status) = queue.send(ToAgent::ObservationsStored(stored)).await {
            return status;
        }
        for update in &batch.updates {
            let handled = shared.parts.events.observations_stored(update);
            run_hook("observations_stored", handled).await;
        }
    }
    Status::ok("")
}
