//! `bellwether node watch`: follows the event stream, also over a restart of the host, until the node is no more.
//!
//! It comes back with the number of the last event that it has, so that nothing is missed and nothing told twice; between two
//! tries there is always a pause, whether the stream was refused, broke or ended well.

use std::time::Duration;

use futures_util::StreamExt;

use super::Session;
use super::client::{Client, segment, typed};
use super::error::CliError;
use super::node::{height, measured};
use super::output::{self, plain, word};
use super::sse::ServerEvent;
use crate::api::{Dimension, EventData, EventView, NodeState, NodeView};

/// Before the first new try.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// Between later tries.
const PAUSE_MOST: Duration = Duration::from_secs(15);

/// What is known of the stream so far.
struct Watch<'a> {
    session: &'a Session,
    node_id: String,
    /// Number of the last event.
    last: Option<i64>,
    /// Tries since an event came.
    failures: u32,
}

/// Why following one stream ended.
enum Ended {
    /// Nothing more can happen to the node.
    Over,
    /// The host ended it or went away.
    Away,
}

/// Follows a node until it is terminal, or until the person ends it.
pub(super) async fn run(node: &str, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/nodes/{}", segment(node));
    let first: NodeView = typed(session.client()?.get(&path).await?)?;
    let mut watch = Watch {
        session,
        node_id: first.id.to_string(),
        last: None,
        failures: 0,
    };
    loop {
        match watch.follow().await {
            Ok(Ended::Over) => return Ok(()),
            Ok(Ended::Away) => {}
            // Somebody was there when the person began, so what passes is waited for.
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        watch.pause().await;
    }
}

impl Watch<'_> {
    async fn follow(&mut self) -> Result<Ended, CliError> {
        // The client is made anew: a host that is back may listen elsewhere, as its folder says.
        let client = self.session.client()?;
        let query = [("node", self.node_id.clone())];
        let last = self.last.map(|last| last.to_string());
        let events = client.events(&query, last.as_deref()).await?;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            if self.take(&client, &event?).await? {
                return Ok(Ended::Over);
            }
        }
        Ok(Ended::Away)
    }

    /// Tells an event; `true` when it is the last that can come.
    async fn take(&mut self, client: &Client, event: &ServerEvent) -> Result<bool, CliError> {
        let seq: Option<i64> = event.id.as_deref().and_then(|id| id.parse().ok());
        if event.event == "connected" {
            return self.connected(client, seq).await;
        }
        // A repeat is told once; observations have no number and are not repeated.
        if seq.is_some_and(|seq| self.last.is_some_and(|last| seq <= last)) {
            return Ok(false);
        }
        self.last = seq.or(self.last);
        let Ok(event) = serde_json::from_str::<EventView>(&event.data) else {
            return Ok(false);
        };
        tell(&event, self.session)?;
        let end = end_of(&event);
        if let Some(state) = end {
            self.say(&format!(
                "The node is `{state}`; nothing more will happen to it."
            ));
        }
        Ok(end.is_some())
    }

    /// The stream begins: what happens from here on is told. A node that was over before has no events left.
    async fn connected(&mut self, client: &Client, seq: Option<i64>) -> Result<bool, CliError> {
        self.failures = 0;
        if self.last.is_some() {
            note("The host is back; nothing was missed.");
            return Ok(false);
        }
        let path = format!("/api/v1/nodes/{}", self.node_id);
        let node: NodeView = typed(client.get(&path).await?)?;
        // Only now: a try that breaks off here begins anew, and the person is told how the node stands.
        self.last = seq;
        let (name, state) = (plain(&node.name), &node.display_state);
        let is_over = is_terminal(node.state);
        let height = height(&node);
        self.say(&if is_over {
            format!("{name} is `{state}`; nothing more will happen to it.")
        } else {
            format!("{name} is {state}, height {height}. Ctrl-C ends this.")
        });
        Ok(is_over)
    }

    /// For a person, among the events.
    fn say(&self, text: &str) {
        if !self.session.is_json() {
            output::say(text);
        }
    }

    async fn pause(&mut self) {
        if self.failures == 0 {
            note("The host does not answer; waiting for it to come back. Ctrl-C ends this.");
        }
        let pause = PAUSE_FIRST
            .saturating_mul(1 << self.failures.min(8))
            .min(PAUSE_MOST);
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(pause).await;
    }
}

/// For a person, beside the events: a program that reads them does not get it.
fn note(text: &str) {
    eprintln!("{text}");
}

/// Whether the same request may work later.
fn is_passing(error: &CliError) -> bool {
    match error {
        CliError::Unreachable { .. } => true,
        CliError::Problem(problem) => problem.status >= 500 || problem.status == 429,
        CliError::NotFoundHere(_) | CliError::Failed(_) | CliError::Other(_) => false,
    }
}

fn is_terminal(state: NodeState) -> bool {
    host_domain::node::NodeState::from(state).is_terminal()
}

/// The state in which the node ended, when the event is that end.
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

fn tell(event: &EventView, session: &Session) -> Result<(), CliError> {
    if session.is_json() {
        // One line each, so that a program can read it as it comes.
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
