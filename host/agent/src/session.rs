//! The session with the host: one stream for beats, commands, results, events and observations.
//!
//! The stream may break at any time. What the host has not said to have stored is sent again in the next session;
//! the host tells repeats by their ids. Results and events have the way first, observations take what is left.

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

/// Messages on their way into the stream.
const OUT_MAX: usize = 64;
/// Places of it that are kept for results, events and beats.
const OUT_RESERVED: usize = 16;
/// Batches of observations without an answer.
const BATCHES_MAX: usize = 8;
/// Beats that the host may still confirm.
const BEATS_MAX: usize = 64;
/// Events in one message.
const EVENTS_MAX: usize = 100;
/// How long the host may take to begin a session, and to take a message.
const BEGIN_MAX: Duration = Duration::from_secs(15);
const SEND_MAX: Duration = Duration::from_secs(30);
const RETRY_BASE: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// A session that lasted this long was a good one: the next try comes soon.
const GOOD: Duration = Duration::from_secs(30);
/// The bounds of what the host may wish for the time between beats.
const BEAT_MIN: Duration = Duration::from_millis(50);
const BEAT_MAX: Duration = Duration::from_mins(5);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the host ended the session: {0}")]
    Status(String),
    #[error("the host closed the session")]
    Closed,
    #[error("the host does not answer")]
    Silent,
    #[error(
        "the host began with something else than a welcome; it and this agent don't fit together"
    )]
    NoWelcome,
}

/// Keeps a session until the agent ends; meanwhile only the connection comes and goes.
pub(crate) async fn keep(agent: &Arc<Agent>, mut identity: Identity) -> Result<(), AgentError> {
    let mut attempt = 0;
    loop {
        let channel = identity.channel(&agent.config.gateway_url)?;
        agent.link.send_replace(Some(channel.clone()));
        let begun = time::now();
        let ended = tokio::select! {
            () = agent.tasks.stop.cancelled() => return Ok(()),
            renewed = renewal(agent, &identity, channel.clone()) => Ok(renewed),
            broken = run(agent, channel) => Err(broken),
        };
        agent.link.send_replace(None);
        agent.observations.spill().await;
        match ended {
            Ok(renewed) => {
                tracing::info!("the certificate is renewed");
                (identity, attempt) = (renewed, 0);
                continue;
            }
            Err(error) => tracing::warn!(%error, "the session is over; it begins again"),
        }
        if time::now().since(begun) > GOOD {
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

/// Returns the renewed identity when renewing was due and went well.
async fn renewal(agent: &Agent, identity: &Identity, channel: Channel) -> Identity {
    loop {
        let wait = identity.renew_at().since(time::now());
        // A clock that is set forward is noticed within the hour.
        time::sleep(wait.min(Duration::from_hours(1))).await;
        if time::now() < identity.renew_at() {
            continue;
        }
        match identity.renew(channel.clone(), &agent.layout).await {
            Ok(renewed) => return renewed,
            Err(error) => tracing::warn!(
                error = format!("{error:#}"),
                "the certificate is not renewed yet"
            ),
        }
        time::sleep(time::jittered(Duration::from_mins(1))).await;
    }
}

async fn run(agent: &Arc<Agent>, channel: Channel) -> Broken {
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
    match session.begin(channel, outgoing).await {
        Ok(never) => match never {},
        Err(broken) => broken,
    }
}

struct Session {
    agent: Arc<Agent>,
    out: mpsc::Sender<pb::AgentMessage>,
    /// What was sent in this session and has no answer.
    results: BTreeSet<String>,
    events: BTreeSet<String>,
    batches: usize,
    n_beats: u64,
    /// When each beat was sent that is not confirmed yet.
    beats: VecDeque<(u64, lease::Moment)>,
}

type Sent<T> = Result<T, Broken>;

impl Session {
    async fn begin(
        mut self,
        channel: Channel,
        outgoing: mpsc::Receiver<pb::AgentMessage>,
    ) -> Sent<std::convert::Infallible> {
        let hello = pb::Hello {
            facts: Some(facts::agent_facts(&self.agent.config.name)),
            running_command_ids: self.agent.executor.journal.open_ids(),
        };
        self.send(Out::Hello(hello)).await?;
        let mut client = AgentGatewayClient::new(channel);
        let connected = client.connect(ReceiverStream::new(outgoing));
        let answer = tokio::time::timeout(BEGIN_MAX, connected)
            .await
            .map_err(|_| Broken::Silent)?;
        let mut incoming = answer.map_err(status)?.into_inner();
        let first = tokio::time::timeout(BEGIN_MAX, incoming.message())
            .await
            .map_err(|_| Broken::Silent)?;
        let Some(In::Welcome(welcome)) = first.map_err(status)?.and_then(|m| m.message) else {
            return Err(Broken::NoWelcome);
        };
        let beat = match welcome.beat_interval_ms {
            0 => self.agent.config.beat_interval,
            ms => Duration::from_millis(u64::from(ms)),
        };
        tracing::info!("the session has begun");
        self.agent.observations.begin_session();
        self.work(&mut incoming, beat.clamp(BEAT_MIN, BEAT_MAX))
            .await
    }

    async fn work(
        &mut self,
        incoming: &mut Streaming<pb::HostMessage>,
        beat: Duration,
    ) -> Sent<std::convert::Infallible> {
        let agent = Arc::clone(&self.agent);
        let mut beats = tokio::time::interval(beat);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut aside = agent.aside.lock().await;
        loop {
            self.flush().await?;
            tokio::select! {
                message = incoming.message() => {
                    let message = message.map_err(status)?.ok_or(Broken::Closed)?;
                    self.receive(message).await?;
                }
                _ = beats.tick() => self.beat().await?,
                Some(message) = aside.recv() => self.send_if_room(message),
                () = agent.executor.finished.notified() => {}
                () = agent.events.added.notified() => {}
                () = agent.observations.added.notified() => {}
            }
        }
    }

    async fn beat(&mut self) -> Sent<()> {
        self.n_beats += 1;
        // Taken before it is sent: the lease that it brings begins then.
        self.beats.push_back((self.n_beats, lease::now()));
        if self.beats.len() > BEATS_MAX {
            self.beats.pop_front();
        }
        self.send(Out::Beat(self.agent.beat(self.n_beats))).await
    }

    /// Prolongs the leases of the nodes that the host still knows as this agent's.
    async fn confirmed(&mut self, confirmed: pb::BeatConfirmed) {
        let sent = self.beats.iter().find(|(n, _)| *n == confirmed.sequence);
        let Some((_, sent_at)) = sent.copied() else {
            return;
        };
        self.beats.retain(|(n, _)| *n > confirmed.sequence);
        let layout = self.agent.layout.clone();
        let length = Duration::from_millis(confirmed.lease_ms);
        let prolonged = durable::blocking(move || {
            for id in confirmed.node_ids.iter().filter_map(|id| id.parse().ok()) {
                lease::prolong(&layout, id, sent_at, length)?;
            }
            Ok(())
        });
        if let Err(error) = prolonged.await {
            tracing::error!(%error, "a lease can't be written down; check the disk, or processes with keys are stopped");
        }
    }

    async fn receive(&mut self, message: pb::HostMessage) -> Sent<()> {
        let agent = Arc::clone(&self.agent);
        match message.message {
            Some(In::Command(command)) => {
                let command_id = command.id.clone();
                match agent.executor.submit(command).await {
                    Ok(()) => {
                        // A result that was sent in this session may be the one that the host missed.
                        self.results.remove(&command_id);
                        self.send(Out::Accepted(pb::CommandAccepted { command_id }))
                            .await?;
                    }
                    Err(error) => {
                        tracing::error!(command.id = command_id, %error, "the command is not taken");
                    }
                }
            }
            Some(In::ResultStored(stored)) => {
                self.results.remove(&stored.command_id);
                if let Ok(id) = stored.command_id.parse()
                    && let Err(error) = agent.executor.journal.stored(id).await
                {
                    tracing::warn!(%error, "the journal can't be written; check the disk");
                }
            }
            Some(In::ObservationsStored(stored)) => {
                self.batches = self.batches.saturating_sub(1);
                agent.observations.stored(stored.sequence).await;
            }
            Some(In::EventsStored(stored)) => {
                self.events.retain(|id| !stored.ids.contains(id));
                let events = Arc::clone(&agent.events);
                let forgotten = durable::blocking(move || {
                    events.stored(&stored.ids);
                    Ok(())
                });
                // Nothing in it fails: a file that stays is sent once more after a restart.
                let _ = forgotten.await;
            }
            Some(In::Assignments(assignments)) => agent.collectors.assign(assignments),
            Some(In::BeatConfirmed(confirmed)) => self.confirmed(confirmed).await,
            // A second welcome changes nothing; what this agent does not know it can't answer.
            Some(In::Welcome(_)) | None => {}
        }
        Ok(())
    }

    /// Sends what waits, the important first.
    async fn flush(&mut self) -> Sent<()> {
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

    async fn send(&self, message: Out) -> Sent<()> {
        let message = pb::AgentMessage {
            message: Some(message),
        };
        match self.out.send_timeout(message, SEND_MAX).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Broken::Silent),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Broken::Closed),
        }
    }

    fn send_if_room(&self, message: Out) {
        if self.out.capacity() > OUT_RESERVED {
            // The capacity was just looked at, and only this task sends.
            let _ = self.out.try_send(pb::AgentMessage {
                message: Some(message),
            });
        }
    }
}

fn status(status: tonic::Status) -> Broken {
    Broken::Status(format!("{:?}: {}", status.code(), status.message()))
}
