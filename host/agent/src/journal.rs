//! The record of each command: what was accepted, which steps were begun and finished, how it ended.
//!
//! Each change is on the disk before the agent acts on it, so that after a crash a finished step is never run
//! again and a begun one can be undone. Records stay for a while after their result is stored, because a host
//! may deliver a command twice. One write runs at a time, on a thread of its own; it goes to its end with the record
//! in memory, whoever stops waiting for it, so that memory and disk never tell different things.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host_domain::ids::CommandId;
use host_domain::time::Millis;
use proto::v1 as pb;
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::steps::Trace;
use crate::{durable, time};

/// How long a record outlives the storing of its result.
const KEEP: Duration = Duration::from_hours(24);
/// Records kept in all, unless unfinished.
const RECORDS_MAX: usize = 2_000;

/// One command's record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(with = "message")]
    pub(crate) command: pb::Command,
    pub(crate) accepted_at: Millis,
    pub(crate) steps: Vec<StepRecord>,
    pub(crate) phase: Phase,
}

/// One step that was begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    pub(crate) index: usize,
    pub(crate) name: String,
    /// What undoing the step needs to know; written before the step touches anything.
    pub(crate) trace: Trace,
    pub(crate) state: StepState,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StepState {
    /// It may have done a part of its work.
    Begun,
    /// It is done and must not run again.
    Finished,
    /// It is undone.
    Undone,
}

/// How far a command is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Its steps are run.
    Forward,
    /// A step failed; the begun ones are undone in reverse.
    Undoing(Failure),
    /// It has a result, which the host has not stored yet.
    Finished(#[serde(with = "message")] pb::CommandResult),
    /// The host has stored the result.
    Stored(#[serde(with = "message")] pb::CommandResult, Millis),
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
    /// Held from the look at a record to the end of its write.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Inner {
    layout: Layout,
    records: Mutex<BTreeMap<CommandId, Record>>,
}

impl Journal {
    /// Reads the records that an earlier agent left.
    pub(crate) fn open(layout: Layout) -> io::Result<Self> {
        let mut records = BTreeMap::new();
        for entry in std::fs::read_dir(layout.journal())? {
            let path = entry?.path();
            let id = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            match id.filter(|_| path.extension().is_some_and(|kind| kind == "json")) {
                Some(id) => records.extend(durable::read_json(&path)?.map(|record| (id, record))),
                // A write that was cut off; the record it was for has its old content.
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

    /// Writes down a command. `false` when it is known already.
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

    /// Changes a record, on the disk first.
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
            "the command has no record",
        ))
    }

    /// The commands without a result, in the order in which they were accepted.
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

    /// The results that the host has not stored.
    pub(crate) fn results(&self) -> Vec<pb::CommandResult> {
        let result = |record: &Record| match &record.phase {
            Phase::Finished(result) => Some(result.clone()),
            Phase::Forward | Phase::Undoing(_) | Phase::Stored(..) => None,
        };
        self.inner.lock().values().filter_map(result).collect()
    }

    /// The commands that have no stored result.
    pub(crate) fn open_ids(&self) -> Vec<String> {
        let open = |record: &Record| !matches!(record.phase, Phase::Stored(..));
        self.inner
            .lock()
            .iter()
            .filter(|(_, r)| open(r))
            .map(|(id, _)| id.to_string())
            .collect()
    }

    /// The host has stored a result.
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

    /// The host delivered a command again whose result it had stored: it gets the result again.
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

    /// Writes what `change` makes of a record, and says whether it made anything.
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
    /// Blocks; for who holds the turn.
    fn prune(&self) {
        for id in self.not_needed(time::now()) {
            // While the file goes nobody waits for the records: the caller's turn keeps other writers out.
            if durable::remove(&self.layout.journal_of(id)).is_ok() {
                self.lock().remove(&id);
            }
        }
    }

    fn not_needed(&self, now: Millis) -> Vec<CommandId> {
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

/// Protocol messages inside JSON: their own encoding, as Base64.
mod message {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<M: prost::Message, S: Serializer>(
        value: &M,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(value.encode_to_vec()))
    }

    pub(super) fn deserialize<'de, M: prost::Message + Default, D: Deserializer<'de>>(
        from: D,
    ) -> Result<M, D::Error> {
        let bytes = STANDARD
            .decode(String::deserialize(from)?)
            .map_err(de::Error::custom)?;
        M::decode(bytes.as_slice()).map_err(de::Error::custom)
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
            trace: Trace::default(),
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
            "a late second delivery is not run again"
        );
        journal.reopen(id).await.unwrap();
        assert_eq!(journal.results(), [result]);
    }
}
