//! Observations for the host: batches in memory while connected, and on disk while disconnected.
//!
//! When the host is slow, newer values of a collector replace older ones. While the agent is disconnected, batches go to a
//! folder with a size limit, and the agent deletes the oldest first. A batch stays in memory until it is on disk. No code
//! holds the queue's lock while it reads or writes files, so no thread of the runtime waits for the disk.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message as _;
use proto::v1 as pb;
use tokio::sync::Notify;

use crate::{durable, time};

/// The number of collections in one batch.
const BATCH_MAX: usize = 200;
/// The number of batches in memory.
const MEMORY_MAX: usize = 32;
/// The compression level of batches on disk.
const ZSTD_LEVEL: i32 = 3;

/// The observations that the host has not stored yet.
pub(crate) struct Observations {
    dir: PathBuf,
    bytes_max: u64,
    queue: Mutex<Queue>,
    /// The thread that moves batches to disk holds this lock.
    spilling: Mutex<()>,
    /// Notified of each new collection.
    pub(crate) added: Notify,
}

/// Sequence numbers increase from `disk` to `memory` to the open batch.
struct Queue {
    disk: VecDeque<SpoolFile>,
    memory: VecDeque<pb::ObservationBatch>,
    open: Vec<pb::Collection>,
    next_sequence: u64,
    /// The last sequence number that this session has sent; `None` while disconnected.
    sent: Option<u64>,
}

struct SpoolFile {
    sequence: u64,
    bytes: u64,
}

impl Observations {
    /// Opens the spool in `dir`, which may contain `bytes_max`.
    pub(crate) fn open(dir: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let mut disk = Vec::new();
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match name
                .strip_suffix(".pb.zst")
                .and_then(|number| number.parse().ok())
            {
                Some(sequence) => disk.push(SpoolFile {
                    sequence,
                    bytes: entry.metadata()?.len(),
                }),
                None => durable::remove(&entry.path())?,
            }
        }
        disk.sort_by_key(|file| file.sequence);
        let last = disk.last().map_or(0, |file| file.sequence);
        // Starting at the current time makes the numbers increase across restarts without storing each one.
        let now = u64::try_from(time::now().0).unwrap_or(0);
        let queue = Queue {
            disk: disk.into(),
            memory: VecDeque::new(),
            open: Vec::new(),
            next_sequence: now.max(last.saturating_add(1)),
            sent: None,
        };
        Ok(Self {
            dir,
            bytes_max,
            queue: Mutex::new(queue),
            spilling: Mutex::default(),
            added: Notify::new(),
        })
    }

    /// Adds the result of a collector.
    pub(crate) async fn push(self: &Arc<Self>, collection: pb::Collection) {
        let must_spill = {
            let mut queue = self.lock();
            queue.open.push(collection);
            if queue.open.len() >= BATCH_MAX {
                queue.seal();
            }
            let is_full = queue.memory.len() > MEMORY_MAX;
            if let Some(sent) = queue.sent.filter(|_| is_full) {
                queue.thin(sent);
            }
            is_full && queue.sent.is_none()
        };
        self.added.notify_one();
        if must_spill {
            self.spill_memory().await;
        }
    }

    /// Starts a session, which sends everything that the host has not stored, oldest first.
    pub(crate) fn begin_session(&self) {
        self.lock().sent = Some(0);
    }

    /// The next batch for this session.
    pub(crate) async fn next(&self) -> Option<pb::ObservationBatch> {
        while let Some(sequence) = self.next_on_disk() {
            let path = self.file(sequence);
            match durable::blocking(move || read_batch(&path)).await {
                Ok(batch) => {
                    self.lock().sent.as_mut().map(|sent| *sent = sequence)?;
                    return Some(batch);
                }
                Err(error) => {
                    tracing::warn!(%error, sequence, "the agent can't read observations on disk and deletes them");
                    self.delete_files(|file| file.sequence == sequence).await;
                }
            }
        }
        let mut queue = self.lock();
        let sent = queue.sent?;
        if !queue.memory.iter().any(|batch| batch.sequence > sent) {
            queue.seal();
        }
        let batch = queue
            .memory
            .iter()
            .find(|batch| batch.sequence > sent)
            .cloned()?;
        queue.sent = Some(batch.sequence);
        Some(batch)
    }

    fn next_on_disk(&self) -> Option<u64> {
        let queue = self.lock();
        let sent = queue.sent?;
        queue.disk.iter().map(|f| f.sequence).find(|s| *s > sent)
    }

    /// Deletes what the host has stored, up to `sequence`.
    pub(crate) async fn stored(&self, sequence: u64) {
        self.lock().memory.retain(|batch| batch.sequence > sequence);
        self.delete_files(|file| file.sequence <= sequence).await;
    }

    /// Ends the session, if any, and moves all batches to disk.
    pub(crate) async fn spill(self: &Arc<Self>) {
        {
            let mut queue = self.lock();
            queue.sent = None;
            queue.seal();
        }
        self.spill_memory().await;
    }

    async fn spill_memory(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let spilled = durable::blocking(move || {
            let _turn = this.spilling.lock();
            while this.spill_one() {}
            this.limit_disk();
            Ok(())
        });
        // `spill_one` logs failures.
        let _ = spilled.await;
    }

    /// Moves the oldest batch to disk. Returns `false` when there is none or a session is open. Blocks.
    fn spill_one(&self) -> bool {
        let batch = {
            let queue = self.lock();
            queue
                .memory
                .front()
                .filter(|_| queue.sent.is_none())
                .cloned()
        };
        let Some(batch) = batch else {
            return false;
        };
        let path = self.file(batch.sequence);
        let written = write_batch(&path, &batch);
        let mut queue = self.lock();
        let is_unchanged = queue.sent.is_none() && queue.memory.front() == Some(&batch);
        match written {
            Ok(bytes) if is_unchanged => queue.disk.push_back(SpoolFile {
                sequence: batch.sequence,
                bytes,
            }),
            Ok(_) => {
                // A session started meanwhile and sends the batch from memory.
                drop(queue);
                let _ = durable::remove(&path);
                return false;
            }
            Err(error) => {
                tracing::warn!(%error, "the agent can't write observations and loses them; check the disk");
            }
        }
        if is_unchanged {
            queue.memory.pop_front();
        }
        is_unchanged
    }

    /// Deletes the oldest batches until the rest fits. Blocks.
    fn limit_disk(&self) {
        let mut surplus = Vec::new();
        {
            let mut queue = self.lock();
            let mut total: u64 = queue.disk.iter().map(|file| file.bytes).sum();
            while total > self.bytes_max
                && let Some(oldest) = queue.disk.pop_front()
            {
                total = total.saturating_sub(oldest.bytes);
                surplus.push(oldest.sequence);
            }
        }
        for sequence in surplus {
            let _ = durable::remove(&self.file(sequence));
        }
    }

    async fn delete_files(&self, is_obsolete: impl Fn(&SpoolFile) -> bool) {
        let mut paths = Vec::new();
        self.lock().disk.retain(|file| {
            let is_obsolete = is_obsolete(file);
            if is_obsolete {
                paths.push(self.file(file.sequence));
            }
            !is_obsolete
        });
        if paths.is_empty() {
            return;
        }
        let removed =
            durable::blocking(move || paths.iter().try_for_each(|path| durable::remove(path)));
        if let Err(error) = removed.await {
            tracing::warn!(%error, "the agent can't delete stored observations and sends them again after a restart");
        }
    }

    fn file(&self, sequence: u64) -> PathBuf {
        self.dir.join(format!("{sequence:020}.pb.zst"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn seal(&mut self) {
        if !self.open.is_empty() {
            let collections = std::mem::take(&mut self.open);
            let sequence = self.next_sequence;
            self.next_sequence = self.next_sequence.saturating_add(1);
            self.memory.push_back(pb::ObservationBatch {
                sequence,
                collections,
            });
        }
    }

    /// Keeps only the newest collection of each collector in the unsent batches.
    fn thin(&mut self, sent: u64) {
        let unsent: Vec<_> = self
            .memory
            .iter()
            .filter(|b| b.sequence > sent)
            .cloned()
            .collect();
        let Some(sequence) = unsent.last().map(|batch| batch.sequence) else {
            // The session has sent all batches. The oldest is the least useful one.
            self.memory.pop_front();
            return;
        };
        let mut newest = BTreeMap::new();
        for collection in unsent.into_iter().flat_map(|batch| batch.collections) {
            newest.insert(
                (collection.node_id.clone(), collection.collector.clone()),
                collection,
            );
        }
        self.memory.retain(|batch| batch.sequence <= sent);
        if self.memory.len() >= MEMORY_MAX {
            self.memory.pop_front();
        }
        self.memory.push_back(pb::ObservationBatch {
            sequence,
            collections: newest.into_values().collect(),
        });
    }
}

fn write_batch(path: &Path, batch: &pb::ObservationBatch) -> io::Result<u64> {
    let bytes = zstd::encode_all(batch.encode_to_vec().as_slice(), ZSTD_LEVEL)?;
    durable::write(path, &bytes)?;
    Ok(bytes.len() as u64)
}

fn read_batch(path: &Path) -> io::Result<pb::ObservationBatch> {
    let bytes = zstd::decode_all(std::fs::File::open(path)?)?;
    pb::ObservationBatch::decode(bytes.as_slice()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection(at_ms: i64) -> pb::Collection {
        pb::Collection {
            collector: "evm".to_owned(),
            at_ms,
            ..Default::default()
        }
    }

    fn times(batch: &pb::ObservationBatch) -> Vec<i64> {
        batch.collections.iter().map(|c| c.at_ms).collect()
    }

    async fn all(log: &Observations) -> Vec<pb::ObservationBatch> {
        let mut batches = Vec::new();
        while let Some(batch) = log.next().await {
            batches.push(batch);
        }
        batches
    }

    #[tokio::test]
    async fn what_is_not_stored_survives_on_disk_and_is_sent_first() {
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(Observations::open(dir.path().to_owned(), 1 << 20).unwrap());
        log.push(collection(1)).await;
        log.spill().await;
        log.push(collection(2)).await;
        log.spill().await;
        let log = Arc::new(Observations::open(dir.path().to_owned(), 1 << 20).unwrap());
        log.push(collection(3)).await;
        assert!(
            log.next().await.is_none(),
            "a disconnected agent sends nothing"
        );
        log.begin_session();
        let batches = all(&log).await;
        assert_eq!(
            batches.iter().flat_map(times).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert!(
            batches
                .windows(2)
                .all(|pair| pair[0].sequence < pair[1].sequence)
        );

        log.stored(batches[1].sequence).await;
        log.begin_session();
        assert_eq!(log.next().await.map(|batch| times(&batch)), Some(vec![3]));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_full_disk_spool_drops_the_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(Observations::open(dir.path().to_owned(), 100).unwrap());
        for at in 0..50 {
            log.push(collection(at)).await;
            log.spill().await;
        }
        log.begin_session();
        let kept: Vec<_> = all(&log).await.iter().flat_map(times).collect();
        assert!(!kept.is_empty() && kept.len() < 20, "{kept:?}");
        assert_eq!(kept.last(), Some(&49));
    }

    #[tokio::test]
    async fn a_slow_host_gets_the_newest_of_each_collector() {
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(Observations::open(dir.path().to_owned(), 1 << 20).unwrap());
        log.begin_session();
        let n = i64::try_from((MEMORY_MAX + 1) * BATCH_MAX).unwrap();
        for at in 0..n {
            log.push(collection(at)).await;
        }
        assert_eq!(
            log.next().await.map(|batch| times(&batch)),
            Some(vec![n - 1])
        );
    }
}
