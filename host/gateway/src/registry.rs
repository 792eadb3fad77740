//! The registry of this process's sessions: which agents are connected, and how the host wakes or ends a session.
//!
//! A wake-up carries no data: the session reads the database, so no queue here can fill up, and a wake-up that a crash
//! loses costs no command. An agent has one session: a newer one ends the older one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host_domain::ids::AgentId;
use tokio::sync::{Notify, watch};

/// Why the host ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// The same agent connected again.
    Replaced,
    /// The agent was revoked.
    Revoked,
    /// The host stops.
    Shutdown,
}

/// The sessions of this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sessions {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    sessions: HashMap<AgentId, Arc<Signals>>,
    draining: bool,
    is_served: bool,
    generation: u64,
}

/// The signals that a session waits for.
pub(crate) struct Signals {
    /// There may be new commands.
    pub(crate) commands: Notify,
    /// The assignments may have changed.
    pub(crate) assignments: Notify,
    end: watch::Sender<Option<EndReason>>,
}

/// The registration of a session; dropping it removes the session.
pub(crate) struct Registration {
    sessions: Sessions,
    agent_id: AgentId,
    signals: Arc<Signals>,
}

/// Why a session can't start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegisterError {
    /// This process has its maximum number of sessions.
    Full,
    /// The host stops.
    Draining,
}

impl Sessions {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes the agent's session to send a new command. Does nothing when the agent is not connected to this process.
    pub fn notify(&self, agent_id: AgentId) {
        if let Some(signals) = self.lock().sessions.get(&agent_id) {
            signals.commands.notify_one();
        }
    }

    /// Wakes every session to send commands, because wake-ups may have been lost.
    pub fn notify_all(&self) {
        for signals in self.lock().sessions.values() {
            signals.commands.notify_one();
        }
    }

    /// Wakes the agent's session to send commands and assignments again, because another process changed some.
    pub fn wake(&self, agent_id: AgentId) {
        if let Some(signals) = self.lock().sessions.get(&agent_id) {
            signals.commands.notify_one();
            signals.assignments.notify_one();
        }
    }

    /// Whether the agent is connected to this process.
    pub fn is_connected(&self, agent_id: AgentId) -> bool {
        self.lock().sessions.contains_key(&agent_id)
    }

    /// The number of agents that are connected to this process.
    pub fn connected(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Whether agents can connect.
    pub fn is_served(&self) -> bool {
        self.lock().is_served
    }

    /// Records whether the gateway listens.
    pub(crate) fn set_served(&self, is_served: bool) {
        self.lock().is_served = is_served;
    }

    /// Wakes every session to send assignments again; does nothing when a newer generation was pushed before.
    pub fn push_assignments(&self, generation: u64) {
        let mut inner = self.lock();
        if generation < inner.generation {
            return;
        }
        inner.generation = generation;
        for signals in inner.sessions.values() {
            signals.assignments.notify_one();
        }
    }

    /// Ends the session of a revoked agent immediately; otherwise it ends at the agent's next beat.
    pub fn disconnect(&self, agent_id: AgentId) {
        if let Some(signals) = self.lock().sessions.get(&agent_id) {
            signals.end(EndReason::Revoked);
        }
    }

    /// Ends every session and refuses new ones.
    pub fn drain(&self) {
        let mut inner = self.lock();
        inner.draining = true;
        for signals in inner.sessions.values() {
            signals.end(EndReason::Shutdown);
        }
    }

    /// Registers a session of the agent; its older session ends.
    pub(crate) fn register(
        &self,
        agent_id: AgentId,
        sessions_max: usize,
    ) -> Result<Registration, RegisterError> {
        let mut inner = self.lock();
        if inner.draining {
            return Err(RegisterError::Draining);
        }
        if inner.sessions.len() >= sessions_max && !inner.sessions.contains_key(&agent_id) {
            return Err(RegisterError::Full);
        }
        let signals = Arc::new(Signals {
            commands: Notify::new(),
            assignments: Notify::new(),
            end: watch::Sender::new(None),
        });
        if let Some(older) = inner.sessions.insert(agent_id, Arc::clone(&signals)) {
            older.end(EndReason::Replaced);
        }
        Ok(Registration {
            sessions: self.clone(),
            agent_id,
            signals,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock, and the map is consistent after every statement.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signals {
    fn end(&self, reason: EndReason) {
        self.end.send_if_modified(|current| {
            let first = current.is_none();
            current.get_or_insert(reason);
            first
        });
    }
}

impl Registration {
    pub(crate) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Waits until the host ends this session.
    pub(crate) async fn ended(&self) -> EndReason {
        let mut end = self.signals.end.subscribe();
        match end.wait_for(Option::is_some).await {
            // This registration owns the sender, so the channel can't close while this waits.
            Ok(reason) => reason.unwrap_or(EndReason::Shutdown),
            Err(_) => EndReason::Shutdown,
        }
    }

    /// Whether the agent has no newer session.
    pub(crate) fn is_newest(&self) -> bool {
        self.sessions
            .lock()
            .sessions
            .get(&self.agent_id)
            .is_some_and(|newest| Arc::ptr_eq(newest, &self.signals))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut inner = self.sessions.lock();
        let newest = inner.sessions.get(&self.agent_id);
        if newest.is_some_and(|newest| Arc::ptr_eq(newest, &self.signals)) {
            inner.sessions.remove(&self.agent_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn agent(number: u128) -> AgentId {
        AgentId(Uuid::from_u128(number))
    }

    #[tokio::test]
    async fn a_newer_session_replaces_the_older_and_survives_its_end() {
        let sessions = Sessions::new();
        let first = sessions.register(agent(1), 10).unwrap();
        let second = sessions.register(agent(1), 10).unwrap();
        assert_eq!(first.ended().await, EndReason::Replaced);
        assert!(!first.is_newest() && second.is_newest());
        drop(first);
        assert!(sessions.is_connected(agent(1)));
        drop(second);
        assert!(!sessions.is_connected(agent(1)));
    }

    #[tokio::test]
    async fn a_wake_up_before_the_wait_is_kept() {
        let sessions = Sessions::new();
        let session = sessions.register(agent(1), 10).unwrap();
        sessions.notify(agent(1));
        sessions.notify(agent(2));
        session.signals().commands.notified().await;
    }

    #[tokio::test]
    async fn the_first_reason_to_end_counts() {
        let sessions = Sessions::new();
        let session = sessions.register(agent(1), 10).unwrap();
        sessions.disconnect(agent(1));
        sessions.drain();
        assert_eq!(session.ended().await, EndReason::Revoked);
    }

    #[test]
    fn sessions_are_bounded_and_end_with_the_host() {
        let sessions = Sessions::new();
        let _first = sessions.register(agent(1), 1).unwrap();
        assert_eq!(
            sessions.register(agent(2), 1).err(),
            Some(RegisterError::Full)
        );
        assert!(sessions.register(agent(1), 1).is_ok());
        sessions.drain();
        assert_eq!(
            sessions.register(agent(3), 1).err(),
            Some(RegisterError::Draining)
        );
    }
}
