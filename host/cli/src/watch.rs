//! `bellwether node watch`: follows the event stream, also across restarts of the host, until the node reaches its last state.
//!
//! It reconnects with the number of the last event, so that it misses no event and shows none twice. It pauses before every
//! reconnect, whether the host refused the stream, the stream broke, or it ended well.

use std::time::Duration;

use futures_util::StreamExt;
use host_wire::{CONNECTED, Dimension, EventData, EventView, EventsQuery, NodeState, NodeView};
use uuid::Uuid;

use super::Session;
use super::client::{Client, segment, typed};
use super::error::CliError;
use super::node::{height, measured};
use super::output::{self, plain, word};
use super::sse::ServerEvent;

/// Pause before the first reconnect.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// Longest pause between later ones.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// The state of the watch across streams.
struct Watch<'a> {
    session: &'a Session,
    node_id: Uuid,
    /// Number of the last event.
    last: Option<i64>,
    /// Failed connections since the last event.
    failures: u32,
}

/// Why one stream ended.
enum StreamEnd {
    /// The node is in its last state.
    NodeOver,
    /// The host ended the stream, or it broke.
    Disconnected,
}

/// Follows a node until it is in its last state, or until the person ends the command.
pub(super) async fn run(node: &str, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/nodes/{}", segment(node));
    let first: NodeView = typed(session.client()?.get(&path).await?)?;
    let mut watch = Watch {
        session,
        node_id: first.id,
        last: None,
        failures: 0,
    };
    loop {
        match watch.follow().await {
            Ok(StreamEnd::NodeOver) => return Ok(()),
            Ok(StreamEnd::Disconnected) => {}
            // The host answered the first request, so the command waits for it.
            Err(error) if is_temporary(&error) => {}
            Err(error) => return Err(error),
        }
        watch.pause().await;
    }
}

impl Watch<'_> {
    async fn follow(&mut self) -> Result<StreamEnd, CliError> {
        // A new client: after a restart the host may have another URL, which its state folder names.
        let client = self.session.client()?;
        let query = EventsQuery {
            node: Some(self.node_id),
            ..EventsQuery::default()
        };
        let last = self.last.map(|last| last.to_string());
        let events = client.events(&query, last.as_deref()).await?;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            if self.handle(&client, &event?).await? {
                return Ok(StreamEnd::NodeOver);
            }
        }
        Ok(StreamEnd::Disconnected)
    }

    /// Shows an event; `true` when it is the node's last one.
    async fn handle(&mut self, client: &Client, event: &ServerEvent) -> Result<bool, CliError> {
        let seq: Option<i64> = event.id.as_deref().and_then(|id| id.parse().ok());
        if event.event == CONNECTED {
            return self.connected(client, seq).await;
        }
        // A repeated event is shown once; observations have no number and are not repeated.
        if seq.is_some_and(|seq| self.last.is_some_and(|last| seq <= last)) {
            return Ok(false);
        }
        self.last = seq.or(self.last);
        let Ok(event) = serde_json::from_str::<EventView>(&event.data) else {
            return Ok(false);
        };
        show(&event, self.session)?;
        let end = end_of(&event);
        if let Some(state) = end {
            self.say(&format!("The node is `{state}`, which is its last state."));
        }
        Ok(end.is_some())
    }

    /// The stream begins here. A node that was in its last state before has no events left.
    async fn connected(&mut self, client: &Client, seq: Option<i64>) -> Result<bool, CliError> {
        self.failures = 0;
        if self.last.is_some() {
            note("Reconnected; no event was missed.");
            return Ok(false);
        }
        let path = format!("/api/v1/nodes/{}", self.node_id);
        let node: NodeView = typed(client.get(&path).await?)?;
        // Only now: if this request fails, the next stream shows the state of the node again.
        self.last = seq;
        let (name, state) = (plain(&node.name), &node.display_state);
        let is_over = is_terminal(node.state);
        let height = height(&node);
        self.say(&if is_over {
            format!("{name} is `{state}`, which is its last state.")
        } else {
            format!("{name} is {state}, height {height}. Press Ctrl-C to end.")
        });
        Ok(is_over)
    }

    /// Writes to a person, among the events.
    fn say(&self, text: &str) {
        if !self.session.is_json() {
            output::say(text);
        }
    }

    async fn pause(&mut self) {
        if self.failures == 0 {
            note("The host does not answer; retrying until it does. Press Ctrl-C to end.");
        }
        let pause = PAUSE_FIRST
            .saturating_mul(1 << self.failures.min(8))
            .min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(pause).await;
    }
}

/// Writes to a person on standard error, so that a program that reads the events does not get it.
fn note(text: &str) {
    eprintln!("{text}");
}

/// Whether the same request may succeed later.
fn is_temporary(error: &CliError) -> bool {
    match error {
        CliError::Unreachable { .. } => true,
        CliError::Problem(problem) => problem.status >= 500 || problem.status == 429,
        CliError::Usage(_) | CliError::Failed(_) | CliError::Other(_) => false,
    }
}

fn is_terminal(state: NodeState) -> bool {
    host_domain::node::NodeState::from(state).is_terminal()
}

/// The last state of the node, if the event is the transition to it.
fn end_of(event: &EventView) -> Option<&str> {
    match &event.what {
        EventData::NodeTransition(moved) if moved.dimension == Dimension::State => {
            let state = host_domain::node::NodeState::parse(&moved.to);
            let is_end = state.is_some_and(host_domain::node::NodeState::is_terminal);
            is_end.then_some(moved.to.as_str())
        }
        _ => None,
    }
}

fn show(event: &EventView, session: &Session) -> Result<(), CliError> {
    if session.is_json() {
        // One line per event, so that a program can read each one at once.
        let line = serde_json::to_string(event).map_err(anyhow::Error::new)?;
        output::say(&line);
        return Ok(());
    }
    if let Some(what) = in_words(&event.what) {
        let at = event.at.strftime("%H:%M:%S");
        output::say(&format!("{at}  {}", plain(&what)));
    }
    Ok(())
}

fn in_words(what: &EventData) -> Option<String> {
    Some(match what {
        EventData::Observation(seen) => format!("height {}", measured(seen.get("node.height")?)),
        EventData::NodeTransition(moved) => {
            let reason = moved.reasons.first();
            let why = reason.map_or(&moved.cause, |reason| &reason.message);
            let dimension = word(moved.dimension).replace('_', " ");
            format!("{dimension} {} → {} ({why})", moved.from, moved.to)
        }
        EventData::NodeEvent(event) => format!("{}: {}", event.kind, event.message),
        EventData::Incident(moved) => {
            format!("incident {}: {}", word(moved.event), moved.title)
        }
        EventData::Operation(moved) => {
            let percent = moved.progress * 100.0;
            let error = moved.error.as_deref().map(|error| format!(": {error}"));
            let (kind, state) = (word(moved.kind), word(moved.state));
            format!("{kind} {state} {percent:.0} %{}", error.unwrap_or_default())
        }
        EventData::Subscription(moved) => {
            format!("subscription {} ({})", word(moved.state), moved.cause)
        }
        EventData::Plugin(_) => return None,
    })
}
