//! Loads plugins and caches their components. Collectors with equal settings share one plugin.
//!
//! Loading retries in the background until it succeeds or no collector uses the plugin.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use host_runtime::{Digest, LoadSpec, Plugin, PluginHost};
use host_secrets::PluginSecrets;
use proto::v1 as pb;
use proto::v1::agent_gateway_client::AgentGatewayClient;
use proto::v1::agent_message::Message as Out;
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;

use super::convert::PluginKey;
use crate::tasks::Tasks;
use crate::{durable, time};

/// The largest size of a component.
const COMPONENT_MAX: usize = 32 << 20;
/// The number of components to keep, for a return to an earlier revision.
const COMPONENTS_MAX: usize = 64;
/// How long the download of a component may take.
const FETCH_MAX: Duration = Duration::from_mins(2);
const RETRY_BASE: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_mins(1);

/// The state of a plugin.
#[derive(Clone)]
pub(super) enum PluginState {
    /// The agent downloads or compiles the component.
    Loading,
    /// The plugin can be called.
    Ready(Plugin),
    /// The plugin failed to load. The agent retries.
    Broken(String),
}

/// The plugin for one set of settings.
pub(super) struct Slot {
    pub(super) state: watch::Sender<PluginState>,
}

/// All plugins. Cheap to clone.
#[derive(Clone)]
pub(super) struct Slots {
    inner: Arc<Inner>,
}

/// What plugins are loaded with.
pub(super) struct SlotParts {
    pub(super) host: PluginHost,
    /// The folder of components.
    pub(super) folder: PathBuf,
    pub(super) gateway: watch::Receiver<Option<Channel>>,
    pub(super) lossy: mpsc::Sender<Out>,
    pub(super) secrets: Arc<PluginSecrets>,
    pub(super) tasks: Tasks,
}

struct Inner {
    parts: SlotParts,
    by_key: Mutex<BTreeMap<PluginKey, Weak<Slot>>>,
}

impl Slots {
    pub(super) fn new(parts: SlotParts) -> Self {
        let by_key = Mutex::default();
        Self {
            inner: Arc::new(Inner { parts, by_key }),
        }
    }

    /// The slot of a plugin. The plugin stays loaded while anyone holds the slot.
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
            state: watch::Sender::new(PluginState::Loading),
        });
        by_key.insert(key.clone(), Arc::downgrade(&slot));
        let (inner, key, weak) = (Arc::clone(&self.inner), key.clone(), Arc::downgrade(&slot));
        self.inner
            .parts
            .tasks
            .spawn_until_stop(async move { inner.load_until_ready(&key, &weak).await });
        slot
    }

    /// Reports the state of all plugins to the host.
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
            let state = match self.load(key).await {
                Ok(plugin) => PluginState::Ready(plugin),
                Err(error) => PluginState::Broken(format!("{error:#}")),
            };
            self.report(key, &state);
            if let PluginState::Broken(error) = &state {
                tracing::warn!(
                    component = key.digest_text(),
                    error,
                    "the plugin failed to load; the agent retries"
                );
            }
            let is_ready = matches!(state, PluginState::Ready(_));
            if let Some(slot) = slot.upgrade() {
                slot.state.send_replace(state);
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
        self.check_secrets(&spec).await?;
        let bytes = self.component(digest).await?;
        Ok(self.parts.host.load(bytes, spec).await?)
    }

    /// Every granted secret must have a value on this machine; the host has none for collectors.
    async fn check_secrets(&self, spec: &LoadSpec) -> anyhow::Result<()> {
        if spec.grants.secrets.is_empty() {
            return Ok(());
        }
        let secrets = &self.parts.secrets;
        secrets.refresh().await;
        secrets.check(&spec.grants).with_context(|| {
            format!(
                "the plugin `{}` can't be loaded by this agent; add the secret to the agent's settings file",
                spec.name
            )
        })
    }

    async fn component(&self, digest: Digest) -> anyhow::Result<Vec<u8>> {
        let path = self.parts.folder.join(format!("{}.wasm", digest.hex()));
        let cached = durable::blocking({
            let path = path.clone();
            move || read_cached(&path, digest)
        });
        if let Some(bytes) = cached.await? {
            return Ok(bytes);
        }
        let fetched = tokio::time::timeout(FETCH_MAX, self.fetch(digest)).await;
        let bytes = fetched
            .context("the download of the component did not end in time")
            .flatten()?;
        anyhow::ensure!(
            Digest::of(&bytes) == digest,
            "the host sent a component with another digest than {digest}"
        );
        let (folder, used) = (self.parts.folder.clone(), self.used());
        let written = durable::blocking(move || {
            durable::write(&path, &bytes)?;
            if let Err(error) = delete_oldest(&folder, &used) {
                tracing::warn!(%error, "the agent can't delete old components; check the disk");
            }
            Ok(bytes)
        });
        written
            .await
            .context("the agent can't write the component; check the disk")
    }

    /// The files of the components in use.
    fn used(&self) -> BTreeSet<String> {
        let by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let used = by_key.iter().filter(|(_, slot)| slot.strong_count() > 0);
        let digests = used.filter_map(|(key, _)| key.load_spec().ok());
        digests
            .map(|(digest, _)| format!("{}.wasm", digest.hex()))
            .collect()
    }

    async fn fetch(&self, digest: Digest) -> anyhow::Result<Vec<u8>> {
        let mut gateway = self.parts.gateway.clone();
        let channel = gateway
            .wait_for(Option::is_some)
            .await
            .context("the agent is shutting down")?
            .clone();
        let mut client = AgentGatewayClient::new(channel.context("the host is unavailable")?);
        let request = pb::FetchComponentRequest {
            digest: digest.to_string(),
        };
        let mut chunks = client
            .fetch_component(request)
            .await
            .context("the host refused to send the component")?
            .into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks
            .message()
            .await
            .context("the download of the component was interrupted")?
        {
            anyhow::ensure!(
                bytes.len() + chunk.data.len() <= COMPONENT_MAX,
                "the component is larger than {COMPONENT_MAX} bytes"
            );
            bytes.extend(chunk.data);
        }
        Ok(bytes)
    }

    fn report(&self, key: &PluginKey, state: &PluginState) {
        let (ready, error) = match state {
            PluginState::Loading => return,
            PluginState::Ready(_) => (true, String::new()),
            PluginState::Broken(error) => (false, error.clone()),
        };
        // The agent reports again with the next assignments.
        let _ = self
            .parts
            .lossy
            .try_send(Out::Component(pb::ComponentReport {
                digest: key.digest_text(),
                ready,
                error,
            }));
    }
}

/// Reads an undamaged component from the cache.
fn read_cached(path: &Path, digest: Digest) -> io::Result<Option<Vec<u8>>> {
    let bytes = durable::read(path)?.filter(|bytes| Digest::of(bytes) == digest);
    if bytes.is_some() {
        touch(path);
    }
    Ok(bytes)
}

/// Deletes the least recently used components beyond the limit, and none in use.
fn delete_oldest(folder: &Path, used: &BTreeSet<String>) -> io::Result<()> {
    let mut unused = Vec::new();
    let mut n_components = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        n_components += 1;
        if !used.contains(&*entry.file_name().to_string_lossy()) {
            let used_at = entry.metadata()?.modified();
            unused.push((used_at.unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
        }
    }
    unused.sort();
    let surplus = usize::saturating_sub(n_components, COMPONENTS_MAX);
    for (_, path) in unused.into_iter().take(surplus) {
        durable::remove(&path)?;
    }
    Ok(())
}

/// Marks a component as just used. A failure costs at most one download.
fn touch(path: &Path) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the cache compares it with times of the file system"
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
        for n in 0..COMPONENTS_MAX + 3 {
            let path = dir.path().join(format!("{n:03}.wasm"));
            fs::write(&path, "").unwrap();
            let then = SystemTime::UNIX_EPOCH + Duration::from_secs(n as u64);
            let times = FileTimes::new().set_modified(then);
            fs::File::open(&path).unwrap().set_times(times).unwrap();
        }
        touch(&dir.path().join("001.wasm"));
        delete_oldest(dir.path(), &["000.wasm".to_owned()].into()).unwrap();
        let kept = fs::read_dir(dir.path()).unwrap();
        let kept: BTreeSet<_> = kept.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(kept.len(), COMPONENTS_MAX);
        for gone in ["002.wasm", "003.wasm", "004.wasm"] {
            assert!(!kept.contains(std::ffi::OsStr::new(gone)), "{gone}");
        }
    }
}
