//! Loaded plugins, shared by all collectors that want the same, and the components that they are made from.
//!
//! Loading goes on in the background until it succeeds or nobody wants it any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use host_runtime::{Digest, Plugin, PluginHost};
use proto::v1 as pb;
use proto::v1::agent_gateway_client::AgentGatewayClient;
use proto::v1::agent_message::Message as Out;
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;

use super::convert::PluginKey;
use crate::tasks::Tasks;
use crate::{durable, time};

/// Bytes of a component.
const COMPONENT_MAX: usize = 32 << 20;
/// Components that are kept for a return to an earlier revision.
const COMPONENTS_KEPT: usize = 64;
/// How long fetching a component may take.
const FETCH_MAX: Duration = Duration::from_mins(2);
const RETRY_BASE: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_mins(1);

/// Where a plugin's loading stands.
#[derive(Clone)]
pub(super) enum Loaded {
    /// It is fetched or compiled.
    Loading,
    /// It can be called.
    Ready(Plugin),
    /// It can't be loaded; tried again now and then.
    Broken(String),
}

/// One plugin as wanted.
pub(super) struct Slot {
    pub(super) state: watch::Sender<Loaded>,
}

/// All slots. Cheap to clone.
#[derive(Clone)]
pub(super) struct Slots {
    inner: Arc<Inner>,
}

struct Inner {
    host: PluginHost,
    folder: PathBuf,
    gateway: watch::Receiver<Option<Channel>>,
    tell: mpsc::Sender<Out>,
    tasks: Tasks,
    by_key: Mutex<BTreeMap<PluginKey, Weak<Slot>>>,
}

impl Slots {
    pub(super) fn new(
        host: PluginHost,
        folder: PathBuf,
        gateway: watch::Receiver<Option<Channel>>,
        tell: mpsc::Sender<Out>,
        tasks: Tasks,
    ) -> Self {
        let by_key = Mutex::default();
        Self {
            inner: Arc::new(Inner {
                host,
                folder,
                gateway,
                tell,
                tasks,
                by_key,
            }),
        }
    }

    /// The slot of a plugin; it is loaded as long as somebody holds the slot.
    pub(super) fn get(&self, key: &PluginKey) -> Arc<Slot> {
        let mut by_key = self
            .inner
            .by_key
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        by_key.retain(|_, slot| slot.strong_count() > 0);
        if let Some(slot) = by_key.get(key).and_then(Weak::upgrade) {
            return slot;
        }
        let slot = Arc::new(Slot {
            state: watch::Sender::new(Loaded::Loading),
        });
        by_key.insert(key.clone(), Arc::downgrade(&slot));
        let (inner, key, weak) = (Arc::clone(&self.inner), key.clone(), Arc::downgrade(&slot));
        self.inner
            .tasks
            .spawn_until_stop(async move { inner.load_until_ready(&key, &weak).await });
        slot
    }

    /// Tells the host how all of them stand.
    pub(super) fn report(&self) {
        let by_key = self
            .inner
            .by_key
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (key, slot) in by_key.iter() {
            if let Some(slot) = slot.upgrade() {
                self.inner.report(key, &slot.state.borrow());
            }
        }
    }
}

impl Inner {
    async fn load_until_ready(&self, key: &PluginKey, slot: &Weak<Slot>) {
        let mut attempt = 0;
        while slot.strong_count() > 0 {
            let loaded = match self.load(key).await {
                Ok(plugin) => Loaded::Ready(plugin),
                Err(error) => Loaded::Broken(format!("{error:#}")),
            };
            self.report(key, &loaded);
            if let Loaded::Broken(error) = &loaded {
                tracing::warn!(
                    component = key.digest_text(),
                    error,
                    "the plugin is not loaded; trying again"
                );
            }
            let is_ready = matches!(loaded, Loaded::Ready(_));
            if let Some(slot) = slot.upgrade() {
                slot.state.send_replace(loaded);
            }
            if is_ready {
                return;
            }
            time::sleep(time::backoff(RETRY_BASE, RETRY_MAX, attempt)).await;
            attempt += 1;
        }
    }

    async fn load(&self, key: &PluginKey) -> anyhow::Result<Plugin> {
        let (digest, spec) = key.load_spec().map_err(anyhow::Error::msg)?;
        let bytes = self.component(digest).await?;
        Ok(self.host.load(bytes, spec).await?)
    }

    async fn component(&self, digest: Digest) -> anyhow::Result<Vec<u8>> {
        let path = self.folder.join(format!("{}.wasm", digest.hex()));
        let kept = durable::blocking({
            let path = path.clone();
            move || read_kept(&path, digest)
        });
        if let Some(bytes) = kept.await? {
            return Ok(bytes);
        }
        let fetched = tokio::time::timeout(FETCH_MAX, self.fetch(digest)).await;
        let bytes = fetched
            .context("the component did not come in time")
            .flatten()?;
        anyhow::ensure!(
            Digest::of(&bytes) == digest,
            "the host sent another component than {digest}"
        );
        let (folder, wanted) = (self.folder.clone(), self.wanted());
        let written = durable::blocking(move || {
            durable::write(&path, &bytes)?;
            if let Err(error) = forget_oldest(&folder, &wanted) {
                tracing::warn!(%error, "old components can't be removed");
            }
            Ok(bytes)
        });
        written
            .await
            .context("the component can't be kept; check the disk")
    }

    /// The files of the components that somebody wants.
    fn wanted(&self) -> BTreeSet<String> {
        let by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = by_key.iter().filter(|(_, slot)| slot.strong_count() > 0);
        let digests = wanted.filter_map(|(key, _)| key.load_spec().ok());
        digests
            .map(|(digest, _)| format!("{}.wasm", digest.hex()))
            .collect()
    }

    async fn fetch(&self, digest: Digest) -> anyhow::Result<Vec<u8>> {
        let mut gateway = self.gateway.clone();
        let channel = gateway
            .wait_for(Option::is_some)
            .await
            .context("the agent is ending")?
            .clone();
        let mut client = AgentGatewayClient::new(channel.context("the host is away")?);
        let request = pb::FetchComponentRequest {
            digest: digest.to_string(),
        };
        let mut chunks = client
            .fetch_component(request)
            .await
            .context("the host does not give the component")?
            .into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.message().await.context("the component broke off")? {
            anyhow::ensure!(
                bytes.len() + chunk.data.len() <= COMPONENT_MAX,
                "the component is too large"
            );
            bytes.extend(chunk.data);
        }
        Ok(bytes)
    }

    fn report(&self, key: &PluginKey, loaded: &Loaded) {
        let (ready, error) = match loaded {
            Loaded::Loading => return,
            Loaded::Ready(_) => (true, String::new()),
            Loaded::Broken(error) => (false, error.clone()),
        };
        // The host hears it again with the next assignments.
        let _ = self.tell.try_send(Out::Component(pb::ComponentReport {
            digest: key.digest_text(),
            ready,
            error,
        }));
    }
}

/// A component that is here already, and whole.
fn read_kept(path: &Path, digest: Digest) -> io::Result<Option<Vec<u8>>> {
    let kept = durable::read(path)?.filter(|bytes| Digest::of(bytes) == digest);
    if kept.is_some() {
        touch(path);
    }
    Ok(kept)
}

/// Bounds the folder: what was not used for the longest time goes, and nothing that is wanted.
fn forget_oldest(folder: &Path, wanted: &BTreeSet<String>) -> io::Result<()> {
    let mut idle = Vec::new();
    let mut n_kept = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        n_kept += 1;
        if !wanted.contains(&*entry.file_name().to_string_lossy()) {
            let used = entry.metadata()?.modified();
            idle.push((used.unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
        }
    }
    idle.sort();
    let surplus = usize::saturating_sub(n_kept, COMPONENTS_KEPT);
    for (_, path) in idle.into_iter().take(surplus) {
        durable::remove(&path)?;
    }
    Ok(())
}

/// Marks a component as used now. Failing costs at most another fetch.
fn touch(path: &Path) {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is compared with the times that the file system gives"
    )]
    let now = FileTimes::new().set_modified(SystemTime::now());
    let _ = fs::File::open(path).and_then(|file| file.set_times(now));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_that_nobody_wants_go_the_longest_unused_first() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..COMPONENTS_KEPT + 3 {
            let path = dir.path().join(format!("{n:03}.wasm"));
            fs::write(&path, "").unwrap();
            let then = SystemTime::UNIX_EPOCH + Duration::from_secs(n as u64);
            let times = FileTimes::new().set_modified(then);
            fs::File::open(&path).unwrap().set_times(times).unwrap();
        }
        touch(&dir.path().join("001.wasm"));
        forget_oldest(dir.path(), &["000.wasm".to_owned()].into()).unwrap();
        let kept = fs::read_dir(dir.path()).unwrap();
        let kept: BTreeSet<_> = kept.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(kept.len(), COMPONENTS_KEPT);
        for gone in ["002.wasm", "003.wasm", "004.wasm"] {
            assert!(!kept.contains(std::ffi::OsStr::new(gone)), "{gone}");
        }
    }
}
