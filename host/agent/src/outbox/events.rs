//! Events of processes: each is a small file until the host has stored it.
//!
//! Events are rare and important, so they survive a crash of the agent. The host recognises repeats by their ids.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use host_domain::ids::NodeId;
use prost::Message as _;
use proto::v1 as pb;
use tokio::sync::Notify;

use crate::{durable, time};

/// The number of events to keep. The agent deletes the oldest ones first.
const EVENTS_MAX: usize = 10_000;

/// The events that the host has not stored yet, oldest first.
pub(crate) struct EventLog {
    dir: PathBuf,
    waiting: Mutex<VecDeque<pb::NodeEvent>>,
    /// Notified of each new event.
    pub(crate) added: Notify,
}

impl EventLog {
    /// Reads the events of the previous agent process.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        let mut waiting = Vec::new();
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            let event = durable::read(&path)?
                .and_then(|bytes| pb::NodeEvent::decode(bytes.as_slice()).ok());
            match event.filter(|_| path.extension().is_some_and(|kind| kind == "pb")) {
                Some(event) => waiting.push(event),
                None => durable::remove(&path)?,
            }
        }
        // The ids sort by time.
        waiting.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Self {
            dir,
            waiting: Mutex::new(waiting.into()),
            added: Notify::new(),
        })
    }

    /// Records an event for the host.
    pub(crate) fn record(&self, node: NodeId, kind: &'static str, message: String) {
        tracing::info!(node.id = %node, event = kind, "{message}");
        let event = pb::NodeEvent {
            id: uuid::Uuid::now_v7().to_string(),
            node_id: node.to_string(),
            at_ms: time::now().0,
            kind: kind.to_owned(),
            message,
        };
        if let Err(error) = durable::write(&self.path(&event.id), &event.encode_to_vec()) {
            tracing::warn!(%error, "the agent can't write an event, which a restart would lose; check the disk");
        }
        let oldest = {
            let mut waiting = self.lock();
            waiting.push_back(event);
            if waiting.len() > EVENTS_MAX {
                waiting.pop_front()
            } else {
                None
            }
        };
        if let Some(oldest) = oldest {
            self.delete(&oldest.id);
        }
        self.added.notify_one();
    }

    /// The oldest events that are not among `sent`.
    pub(crate) fn unsent(&self, sent: &BTreeSet<String>, max: usize) -> Vec<pb::NodeEvent> {
        self.lock()
            .iter()
            .filter(|event| !sent.contains(&event.id))
            .take(max)
            .cloned()
            .collect()
    }

    /// Deletes events that the host has stored.
    pub(crate) fn stored(&self, ids: &[String]) {
        self.lock().retain(|event| !ids.contains(&event.id));
        for id in ids {
            self.delete(id);
        }
    }

    fn delete(&self, id: &str) {
        // The id comes from the host, so it must not become a path unchecked.
        if uuid::Uuid::parse_str(id).is_ok() {
            let _ = durable::remove(&self.path(id));
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.pb"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<pb::NodeEvent>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_wait_on_disk_until_they_are_stored() {
        let dir = tempfile::tempdir().unwrap();
        let node = NodeId(uuid::Uuid::now_v7());
        let log = EventLog::open(dir.path().to_owned()).unwrap();
        log.record(node, "process_started", "a".to_owned());
        log.record(node, "process_exited", "b".to_owned());
        drop(log);

        let log = EventLog::open(dir.path().to_owned()).unwrap();
        let events = log.unsent(&BTreeSet::new(), 10);
        assert_eq!(
            events
                .iter()
                .map(|e| e.message.as_str())
                .collect::<Vec<_>>(),
            ["a", "b"]
        );
        log.stored(&[events[0].id.clone(), "../../etc/passwd".to_owned()]);
        assert_eq!(
            EventLog::open(dir.path().to_owned())
                .unwrap()
                .unsent(&BTreeSet::new(), 10),
            events[1..]
        );
    }
}
