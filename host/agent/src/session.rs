//! The session with the host: one stream for beats, commands, results, events and observations.
//!
//! The stream may break at any time. The next session sends again what the host has not acknowledged; the host recognises
//! repeats by their ids. Results and events have priority over observations.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proto::v1 as pb;
use proto::v1::agent_gateway_client::AgentGatewayClient;
use proto::v1::agent_message::Message as Out;
use proto::v1::host_message::Message as In;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::agent::Agent;
use crate::config::AgentError;
use crate::identity::Identity;
use crate::{durable, facts, lease, time};

/// The capacity of the queue into the stream.
const OUT_MAX: usize = 64;
/// The part of the queue that is reserved for results, events and beats.
const OUT_RESERVED: usize = 16;
/// Batches of observations without an acknowledgement.
const BATCHES_MAX: usize = 8;
/// Beats without a confirmation.
const BEATS_MAX: usize = 64;
/// Events in one message.
const EVENTS_MAX: usize = 100;
/// How long the host may take to open a session.
const OPEN_MAX: Duration = Duration::from_secs(15);
/// How long the host may take to read a message.
const SEND_MAX: Duration = Duration::from_secs(30);
const RETRY_BASE: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// After a session of this length the backoff starts again.
const STABLE: Duration = Duration::from_secs(30);
/// The limits of the time between beats.
const BEAT_MIN: Duration = Duration::from_millis(50);
const BEAT_MAX: Duration = Duration::from_mins(5);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("the host ended the session: {0}")]
    Status(String),
    #[error("the host closed the connection")]
    Closed,
    #[error("the host does not answer")]
    Timeout,
    #[error(
        "the host's first message was no welcome; update the host and this agent to the same version"
    )]
    NoWelcome,
}

/// Keeps a session open until the agent shuts down, and reconnects when it breaks.
pub(crate) async fn keep(agent: &Arc<Agent>, mut identity: Identity) -> Result<(), AgentError> {
    let mut attempt = 0;
    loop {
        let channel = identity.channel(&agent.config.gateway_url)?;
        agent.gateway.send_replace(Some(channel.clone()));
        let started_at = time::now();
        let ended = tokio::select! {
            () = agent.tasks.stop.cancelled() => return Ok(()),
            renewed = renewal(agent, &identity, channel.clone()) => Ok(renewed),
            error = run(agent, channel) => Err(error),
        };
        agent.gateway.send_replace(None);
        agent.observations.spill().await;
        match ended {
            Ok(renewed) => {
                tracing::info!("the agent renewed its certificate");
                (identity, attempt) = (renewed, 0);
                continue;
            }
            Err(error) => tracing::warn!(%error, "the session ended; the agent reconnects"),
        }
        if time::now().since(started_at) > STABLE {
            attempt = 0;
        }
        let wait = time::backoff(RETRY_BASE, RETRY_MAX, attempt);
        attempt += 1;
        if agent
            .tasks
            .stop
            .run_until_cancelled(time::sleep(wait))
            .await
            .is_none()
        {
            return Ok(());
        }
    }
}

/// Waits until the certificate is due for renewal, and returns the renewed identity.
async fn renewal(agent: &Agent, identity: &Identity, channel: Channel) -> Identity {
    loop {
        let wait = identity.renew_at().since(time::now());
        // Someone may set the clock forward, so the wait is limited.
        time::sleep(wait.min(Duration::from_hours(1))).await;
        if time::now() < identity.renew_at() {
            continue;
        }
        match identity.renew(channel.clone(), &agent.layout).await {
            Ok(renewed) => return renewed,
            Err(error) => tracing::warn!(
                error = format!("{error:#}"),
                "the agent can't renew its certificate and retries"
            ),
        }
        time::sleep(time::jittered(Duration::from_mins(1))).await;
    }
}

async fn run(agent: &Arc<Agent>, channel: Channel) -> SessionError {
    let (out, outgoing) = mpsc::channel(OUT_MAX);
    let session = Session {
        agent: Arc::clone(agent),
        out,
        results: BTreeSet::new(),
        events: BTreeSet::new(),
        batches: 0,
        n_beats: 0,
        beats: VecDeque::new(),
    };
    match session.open(channel, outgoing).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

struct Session {
    agent: Arc<Agent>,
    out: mpsc::Sender<pb::AgentMessage>,
    /// Results and events that this session has sent and the host has not acknowledged.
    results: BTreeSet<String>,
    events: BTreeSet<String>,
    batches: usize,
    n_beats: u64,
    /// When the session sent each beat that the host has not confirmed.
    beats: VecDeque<(u64, lease::Moment)>,
}

type SessionResult<T> = Result<T, SessionError>;

impl Session {
    async fn open(
        mut self,
        channel: Channel,
        outgoing: mpsc::Receiver<pb::AgentMessage>,
    ) -> SessionResult<std::convert::Infallible> {
        let hello = pb::Hello {
            facts: Some(facts::agent_facts(&self.agent.config.name)),
            running_command_ids: self.agent.executor.journal.open_ids(),
        };
        self.send(Out::Hello(hello)).await?;
        let mut client = AgentGatewayClient::new(channel);
        let connected = client.connect(ReceiverStream::new(outgoing));
        let answer = tokio::time::timeout(OPEN_MAX, connected)
            .await
            .map_err(|_| SessionError::Timeout)?;
        let mut incoming = answer.map_err(status)?.into_inner();
        let first = tokio::time::timeout(OPEN_MAX, incoming.message())
            .await
            .map_err(|_| SessionError::Timeout)?;
        let Some(In::Welcome(welcome)) = first.map_err(status)?.and_then(|m| m.message) else {
            return Err(SessionError::NoWelcome);
        };
        let beat = match welcome.beat_interval_ms {
            0 => self.agent.config.beat_interval,
            ms => Duration::from_millis(u64::from(ms)),
        };
        tracing::info!("the session is open");
        self.agent.observations.begin_session();
        self.work(&mut incoming, beat.clamp(BEAT_MIN, BEAT_MAX))
            .await
    }

    async fn work(
        &mut self,
        incoming: &mut Streaming<pb::HostMessage>,
        beat: Duration,
    ) -> SessionResult<std::convert::Infallible> {
        let agent = Arc::clone(&self.agent);
        let mut beats = tokio::time::interval(beat);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut lossy = agent.lossy.lock().await;
        loop {
            self.flush().await?;
            tokio::select! {
                message = incoming.message() => {
                    let message = message.map_err(status)?.ok_or(SessionError::Closed)?;
                    self.receive(message).await?;
                }
                _ = beats.tick() => self.beat().await?,
                Some(message) = lossy.recv() => self.send_if_room(message),
                () = agent.executor.finished.notified() => {}
                () = agent.events.added.notified() => {}
                () = agent.observations.added.notified() => {}
            }
        }
    }

    async fn beat(&mut self) -> SessionResult<()> {
        self.n_beats += 1;
        // The lease counts from before the beat is sent.
        self.beats.push_back((self.n_beats, lease::now()));
        if self.beats.len() > BEATS_MAX {
            self.beats.pop_front();
        }
        self.send(Out::Beat(self.agent.beat(self.n_beats))).await
    }

    /// Extends the leases of the nodes that still belong to this agent.
    async fn extend_leases(&mut self, confirmed: pb::BeatConfirmed) {
        let sent = self.beats.iter().find(|(n, _)| *n == confirmed.sequence);
        let Some((_, sent_at)) = sent.copied() else {
            return;
        };
        self.beats.retain(|(n, _)| *n > confirmed.sequence);
        let layout = self.agent.layout.clone();
        let length = Duration::from_millis(confirmed.lease_ms);
        let extended = durable::blocking(move || {
            for id in confirmed.node_ids.iter().filter_map(|id| id.parse().ok()) {
                lease::extend(&layout, id, sent_at, length)?;
            }
            Ok(())
        });
        if let Err(error) = extended.await {
            tracing::error!(%error, "the agent can't write a lease and will stop processes that hold keys; check the disk");
        }
    }

    async fn receive(&mut self, message: pb::HostMessage) -> SessionResult<()> {
        let agent = Arc::clone(&self.agent);
        match message.message {
            Some(In::Command(command)) => {
                let command_id = command.id.clone();
                match agent.executor.submit(command).await {
                    Ok(()) => {
                        // The host may have missed the result that this session sent, so it is sent again.
                        self.results.remove(&command_id);
                        self.send(Out::Accepted(pb::CommandAccepted { command_id }))
                            .await?;
                    }
                    Err(error) => {
                        tracing::error!(command.id = command_id, %error, "the agent rejects the command");
                    }
                }
            }
            Some(In::ResultStored(stored)) => {
                self.results.remove(&stored.command_id);
                if let Ok(id) = stored.command_id.parse()
                    && let Err(error) = agent.executor.journal.stored(id).await
                {
                    tracing::warn!(%error, "the agent can't write its journal; check the disk");
                }
            }
            Some(In::ObservationsStored(stored)) => {
                self.batches = self.batches.saturating_sub(1);
                agent.observations.stored(stored.sequence).await;
            }
            Some(In::EventsStored(stored)) => {
                self.events.retain(|id| !stored.ids.contains(id));
                let events = Arc::clone(&agent.events);
                let removed = durable::blocking(move || {
                    events.stored(&stored.ids);
                    Ok(())
                });
                // An event whose file stays is sent again after a restart; the host ignores repeats.
                let _ = removed.await;
            }
            Some(In::Assignments(assignments)) => agent.collectors.assign(assignments),
            Some(In::BeatConfirmed(confirmed)) => self.extend_leases(confirmed).await,
            // A second welcome changes nothing, and the agent ignores unknown messages.
            Some(In::Welcome(_)) | None => {}
        }
        Ok(())
    }

    /// Sends waiting messages, the important ones first.
    async fn flush(&mut self) -> SessionResult<()> {
        let agent = Arc::clone(&self.agent);
        for result in agent.executor.journal.results() {
            if self.results.insert(result.command_id.clone()) {
                self.send(Out::Result(result)).await?;
            }
        }
        let events = agent.events.unsent(&self.events, EVENTS_MAX);
        if !events.is_empty() {
            self.events
                .extend(events.iter().map(|event| event.id.clone()));
            self.send(Out::Events(pb::NodeEventBatch { events }))
                .await?;
        }
        while self.batches < BATCHES_MAX && self.out.capacity() > OUT_RESERVED {
            let Some(batch) = agent.observations.next().await else {
                break;
            };
            self.batches += 1;
            self.send(Out::Observations(batch)).await?;
        }
        Ok(())
    }

    async fn send(&self, message: Out) -> SessionResult<()> {
        let message = pb::AgentMessage {
            message: Some(message),
        };
        match self.out.send_timeout(message, SEND_MAX).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(SessionError::Timeout),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(SessionError::Closed),
        }
    }

    fn send_if_room(&self, message: Out) {
        if self.out.capacity() > OUT_RESERVED {
            // This task is the only sender, so there is still room.
            let _ = self.out.try_send(pb::AgentMessage {
                message: Some(message),
            });
        }
    }
}

fn status(status: tonic::Status) -> SessionError {
    SessionError::Status(format!("{:?}: {}", status.code(), status.message()))
}
