//! The sessions of this process: who is connected, and how to wake or end a session from elsewhere.
//!
//! Waking carries no data: a woken session reads what it needs from the database, so nothing here can fill up, and a wake
//! that is lost to a crash costs no command. An agent has one session: a newer one ends the older.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host_domain::ids::AgentId;
use tokio::sync::{Notify, watch};

/// Why a session ends from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The same agent connected anew.
    Replaced,
    /// The agent was cut off for good.
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
    sessions: HashMap<AgentId, Arc<Wakes>>,
    draining: bool,
    is_served: bool,
    generation: u64,
}

/// What reaches a session from outside.
pub(super) struct Wakes {
    /// There may be new commands.
    pub(super) commands: Notify,
    /// The assignments may have changed.
    pub(super) assignments: Notify,
    ending: watch::Sender<Option<Ending>>,
}

/// A session's place among the others; dropping it leaves.
pub(super) struct Seat {
    sessions: Sessions,
    agent_id: AgentId,
    wakes: Arc<Wakes>,
}

/// Why a session can't begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSeat {
    /// There are as many as this process serves.
    Full,
    /// The host stops.
    Draining,
}

impl Sessions {
    /// No sessions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes the agent's session, because a command was queued for it. Nothing happens when it is not connected here.
    pub fn notify(&self, agent_id: AgentId) {
        if let Some(wakes) = self.lock().sessions.get(&agent_id) {
            wakes.commands.notify_one();
        }
    }

    /// Wakes every session, because word of a command may have been lost.
    pub fn notify_all(&self) {
        for wakes in self.lock().sessions.values() {
            wakes.commands.notify_one();
        }
    }

    /// Lets the agent's session look at everything again, because another process changed something of it.
    pub fn wake(&self, agent_id: AgentId) {
        if let Some(wakes) = self.lock().sessions.get(&agent_id) {
            wakes.commands.notify_one();
            wakes.assignments.notify_one();
        }
    }

    /// Whether the agent is connected to this process.
    pub fn is_connected(&self, agent_id: AgentId) -> bool {
        self.lock().sessions.contains_key(&agent_id)
    }

    /// How many agents are connected to this process.
    pub fn connected(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Whether agents can connect: the gateway listens.
    pub fn is_served(&self) -> bool {
        self.lock().is_served
    }

    /// Says that the gateway listens, or that it ended.
    pub(super) fn set_served(&self, is_served: bool) {
        self.lock().is_served = is_served;
    }

    /// Lets every session send its agent's assignments anew; an older generation than the last one changes nothing.
    pub fn push_assignments(&self, generation: u64) {
        let mut inner = self.lock();
        if generation < inner.generation {
            return;
        }
        inner.generation = generation;
        for wakes in inner.sessions.values() {
            wakes.assignments.notify_one();
        }
    }

    /// Ends the agent's session at once, because it was revoked; without this it ends with its next beat.
    pub fn cut_off(&self, agent_id: AgentId) {
        if let Some(wakes) = self.lock().sessions.get(&agent_id) {
            wakes.end(Ending::Revoked);
        }
    }

    /// Ends every session and lets no new one begin.
    pub fn drain(&self) {
        let mut inner = self.lock();
        inner.draining = true;
        for wakes in inner.sessions.values() {
            wakes.end(Ending::Shutdown);
        }
    }

    /// Takes a seat for the agent; its older session ends.
    pub(super) fn sit(&self, agent_id: AgentId, sessions_max: usize) -> Result<Seat, NoSeat> {
        let mut inner = self.lock();
        if inner.draining {
            return Err(NoSeat::Draining);
        }
        if inner.sessions.len() >= sessions_max && !inner.sessions.contains_key(&agent_id) {
            return Err(NoSeat::Full);
        }
        let wakes = Arc::new(Wakes {
            commands: Notify::new(),
            assignments: Notify::new(),
            ending: watch::Sender::new(None),
        });
        if let Some(older) = inner.sessions.insert(agent_id, Arc::clone(&wakes)) {
            older.end(Ending::Replaced);
        }
        Ok(Seat {
            sessions: self.clone(),
            agent_id,
            wakes,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock, and the map is whole at every step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wakes {
    fn end(&self, ending: Ending) {
        self.ending.send_if_modified(|current| {
            let first = current.is_none();
            current.get_or_insert(ending);
            first
        });
    }
}

impl Seat {
    pub(super) fn wakes(&self) -> &Wakes {
        &self.wakes
    }

    /// Waits until somebody ends this session.
    pub(super) async fn ended(&self) -> Ending {
        let mut ending = self.wakes.ending.subscribe();
        match ending.wait_for(Option::is_some).await {
            // The sender lives in this seat, so the channel can't close while it is waited for.
            Ok(ending) => ending.unwrap_or(Ending::Shutdown),
            Err(_) => Ending::Shutdown,
        }
    }

    /// Whether the agent has no newer session.
    pub(super) fn is_newest(&self) -> bool {
        self.sessions
            .lock()
            .sessions
            .get(&self.agent_id)
            .is_some_and(|newest| Arc::ptr_eq(newest, &self.wakes))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.sessions.lock();
        let newest = inner.sessions.get(&self.agent_id);
        if newest.is_some_and(|newest| Arc::ptr_eq(newest, &self.wakes)) {
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
        let first = sessions.sit(agent(1), 10).unwrap();
        let second = sessions.sit(agent(1), 10).unwrap();
        assert_eq!(first.ended().await, Ending::Replaced);
        assert!(!first.is_newest() && second.is_newest());
        drop(first);
        assert!(sessions.is_connected(agent(1)));
        drop(second);
        assert!(!sessions.is_connected(agent(1)));
    }

    #[tokio::test]
    async fn a_wake_before_the_wait_is_kept() {
        let sessions = Sessions::new();
        let seat = sessions.sit(agent(1), 10).unwrap();
        sessions.notify(agent(1));
        sessions.notify(agent(2));
        seat.wakes().commands.notified().await;
    }

    #[tokio::test]
    async fn the_first_reason_to_end_counts() {
        let sessions = Sessions::new();
        let seat = sessions.sit(agent(1), 10).unwrap();
        sessions.cut_off(agent(1));
        sessions.drain();
        assert_eq!(seat.ended().await, Ending::Revoked);
    }

    #[test]
    fn seats_are_bounded_and_end_with_the_host() {
        let sessions = Sessions::new();
        let _first = sessions.sit(agent(1), 1).unwrap();
        assert_eq!(sessions.sit(agent(2), 1).err(), Some(NoSeat::Full));
        assert!(sessions.sit(agent(1), 1).is_ok());
        sessions.drain();
        assert_eq!(sessions.sit(agent(3), 1).err(), Some(NoSeat::Draining));
    }
}
