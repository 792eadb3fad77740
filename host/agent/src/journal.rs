//! The journal: for each command what the agent accepted, which steps it started and finished, and the result.
//!
//! The agent writes each change to disk before it acts. After a crash it therefore never runs a finished step again, and
//! it can undo a started one. The journal knows no kind of step: it stores the kind's name and a payload that only the
//! step reads. A record outlives its stored result, because a host may deliver a command twice. Writes run one at a
//! time, each on a thread of its own and to its end, so memory and disk never differ.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host_domain::ids::CommandId;
use host_domain::time::Millis;
use proto::v1 as pb;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::layout::Layout;
use crate::{durable, json_message, time};

/// How long the agent keeps a record after the host stored its result.
const KEEP: Duration = Duration::from_hours(24);
/// The number of records to keep, unless more are unfinished.
const RECORDS_MAX: usize = 2_000;

/// One command's record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(with = "json_message")]
    pub(crate) command: pb::Command,
    pub(crate) accepted_at: Millis,
    pub(crate) steps: Vec<StepRecord>,
    pub(crate) phase: Phase,
}

/// One started step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    pub(crate) index: usize,
    /// The step's name in its recipe.
    pub(crate) name: String,
    /// What the step does, by the name of its type.
    pub(crate) kind: String,
    pub(crate) payload: Payload,
    pub(crate) state: StepState,
}

/// What a step needs for undoing its changes. The agent writes it before the step changes anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Payload(serde_json::Value);

impl Payload {
    /// The payload of a step that changes nothing.
    pub(crate) fn none() -> Self {
        Self(serde_json::Value::Null)
    }

    /// Stores a step's own type.
    pub(crate) fn of<T: Serialize>(value: &T) -> serde_json::Result<Self> {
        serde_json::to_value(value).map(Self)
    }

    /// Reads a step's own type.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        T::deserialize(&self.0)
    }
}

/// The progress of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StepState {
    /// The step may have done part of its work.
    Started,
    /// The step is done and must not run again.
    Finished,
    /// The agent undid the step.
    Undone,
}

/// The progress of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// The agent runs its steps.
    Forward,
    /// A step failed. The agent undoes the started steps in reverse order.
    Undoing(Failure),
    /// The command has a result that the host has not stored yet.
    Finished(#[serde(with = "json_message")] pb::CommandResult),
    /// The host has stored the result.
    Stored(#[serde(with = "json_message")] pb::CommandResult, Millis),
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) step: String,
    pub(crate) error: String,
    pub(crate) output: String,
}

/// All records.
pub(crate) struct Journal {
    inner: Arc<Inner>,
    /// Held from reading a record until its change is on disk.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Inner {
    layout: Layout,
    records: Mutex<BTreeMap<CommandId, Record>>,
}

impl Journal {
    /// Reads the records of the previous agent process.
    pub(crate) fn open(layout: Layout) -> io::Result<Self> {
        let mut records = BTreeMap::new();
        for entry in std::fs::read_dir(layout.journal())? {
            let path = entry?.path();
            let id = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            match id.filter(|_| path.extension().is_some_and(|kind| kind == "json")) {
                Some(id) => records.extend(durable::read_json(&path)?.map(|record| (id, record))),
                // A crash interrupted a write; the record has its old content.
                None => durable::remove(&path)?,
            }
        }
        let inner = Inner {
            layout,
            records: Mutex::new(records),
        };
        inner.prune();
        Ok(Self {
            inner: Arc::new(inner),
            turn: Arc::default(),
        })
    }

    /// Records a command. Returns `false` when the command is known.
    pub(crate) async fn accept(&self, id: CommandId, command: pb::Command) -> io::Result<bool> {
        let accept = |known: Option<Record>| {
            known.is_none().then(|| Record {
                command,
                accepted_at: time::now(),
                steps: Vec::new(),
                phase: Phase::Forward,
            })
        };
        self.change(id, accept).await
    }

    /// A copy of a record.
    pub(crate) fn get(&self, id: CommandId) -> Option<Record> {
        self.inner.lock().get(&id).cloned()
    }

    /// Whether a command is known and has no result.
    pub(crate) fn is_unfinished(&self, id: CommandId) -> bool {
        let record = self.get(id);
        record.is_some_and(|one| matches!(one.phase, Phase::Forward | Phase::Undoing(_)))
    }

    /// Changes a record, first on disk and then in memory.
    pub(crate) async fn update(
        &self,
        id: CommandId,
        change: impl FnOnce(&mut Record),
    ) -> io::Result<()> {
        let change = |known: Option<Record>| {
            let mut record = known?;
            change(&mut record);
            Some(record)
        };
        if self.change(id, change).await? {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the journal has no record of the command",
        ))
    }

    /// The commands without a result, in the order of their acceptance.
    pub(crate) fn unfinished(&self) -> Vec<(CommandId, Record)> {
        let mut open: Vec<_> = self
            .inner
            .lock()
            .iter()
            .filter(|(_, record)| matches!(record.phase, Phase::Forward | Phase::Undoing(_)))
            .map(|(id, record)| (*id, record.clone()))
            .collect();
        open.sort_by_key(|(id, record)| (record.accepted_at, *id));
        open
    }

    /// The results that the host has not stored yet.
    pub(crate) fn results(&self) -> Vec<pb::CommandResult> {
        let result = |record: &Record| match &record.phase {
            Phase::Finished(result) => Some(result.clone()),
            Phase::Forward | Phase::Undoing(_) | Phase::Stored(..) => None,
        };
        self.inner.lock().values().filter_map(result).collect()
    }

    /// The commands without a stored result.
    pub(crate) fn open_ids(&self) -> Vec<String> {
        let open = |record: &Record| !matches!(record.phase, Phase::Stored(..));
        self.inner
            .lock()
            .iter()
            .filter(|(_, r)| open(r))
            .map(|(id, _)| id.to_string())
            .collect()
    }

    /// Notes that the host has stored a result.
    pub(crate) async fn stored(&self, id: CommandId) -> io::Result<()> {
        let store = |known: Option<Record>| match known? {
            Record {
                command,
                accepted_at,
                phase: Phase::Finished(result),
                ..
            } => Some(Record {
                command,
                accepted_at,
                steps: Vec::new(),
                phase: Phase::Stored(result, time::now()),
            }),
            _ => None,
        };
        self.change(id, store).await.map(drop)
    }

    /// Sends a result again, because the host delivered its command again.
    pub(crate) async fn reopen(&self, id: CommandId) -> io::Result<()> {
        let reopen = |known: Option<Record>| {
            let record = known?;
            match record.phase {
                Phase::Stored(result, _) => Some(Record {
                    phase: Phase::Finished(result),
                    ..record
                }),
                Phase::Forward | Phase::Undoing(_) | Phase::Finished(_) => None,
            }
        };
        self.change(id, reopen).await.map(drop)
    }

    /// Writes the changed record. Returns `false` when `change` returns none.
    async fn change(
        &self,
        id: CommandId,
        change: impl FnOnce(Option<Record>) -> Option<Record>,
    ) -> io::Result<bool> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let Some(record) = change(self.get(id)) else {
            return Ok(false);
        };
        let inner = Arc::clone(&self.inner);
        durable::blocking(move || {
            let _turn = turn;
            let is_stored = matches!(record.phase, Phase::Stored(..));
            durable::write_json(&inner.layout.journal_of(id), &record)?;
            inner.lock().insert(id, record);
            if is_stored {
                inner.prune();
            }
            Ok(true)
        })
        .await
    }
}

impl Inner {
    /// Deletes old records. Blocks; the caller holds the turn.
    fn prune(&self) {
        for id in self.expired(time::now()) {
            // The caller's turn excludes other writers, so readers need not wait for the disk.
            if durable::remove(&self.layout.journal_of(id)).is_ok() {
                self.lock().remove(&id);
            }
        }
    }

    fn expired(&self, now: Millis) -> Vec<CommandId> {
        let records = self.lock();
        let mut stored: Vec<(Millis, CommandId)> = records
            .iter()
            .filter_map(|(id, record)| match record.phase {
                Phase::Stored(_, at) => Some((at, *id)),
                Phase::Forward | Phase::Undoing(_) | Phase::Finished(_) => None,
            })
            .collect();
        stored.sort_unstable();
        let surplus = records.len().saturating_sub(RECORDS_MAX);
        let stored = stored.into_iter().enumerate();
        stored
            .filter(|(n, (at, _))| *n < surplus || now.since(*at) > KEEP)
            .map(|(_, (_, id))| id)
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<CommandId, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_record_survives_and_a_command_is_accepted_once() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        let id = CommandId(uuid::Uuid::now_v7());
        let command = pb::Command {
            id: id.to_string(),
            ..Default::default()
        };
        let result = pb::CommandResult {
            command_id: id.to_string(),
            ..Default::default()
        };

        let journal = Journal::open(layout.clone()).unwrap();
        assert!(journal.accept(id, command.clone()).await.unwrap());
        let step = StepRecord {
            index: 0,
            name: "download".to_owned(),
            kind: "download".to_owned(),
            payload: Payload::of(&["made"]).unwrap(),
            state: StepState::Finished,
        };
        journal
            .update(id, |record| record.steps.push(step.clone()))
            .await
            .unwrap();

        let journal = Journal::open(layout.clone()).unwrap();
        assert!(!journal.accept(id, command.clone()).await.unwrap());
        let open = journal.unfinished();
        assert_eq!(open.len(), 1);
        assert_eq!(
            (&open[0].1.command, &open[0].1.steps),
            (&command, &vec![step])
        );

        journal
            .update(id, |record| record.phase = Phase::Finished(result.clone()))
            .await
            .unwrap();
        assert_eq!(journal.results(), std::slice::from_ref(&result));
        journal.stored(id).await.unwrap();
        let journal = Journal::open(layout).unwrap();
        assert!(journal.results().is_empty() && journal.open_ids().is_empty());
        assert!(
            !journal.accept(id, command).await.unwrap(),
            "the agent never runs a command twice"
        );
        journal.reopen(id).await.unwrap();
        assert_eq!(journal.results(), [result]);
    }
}
