//! The state of collectors between their calls: one file per plugin in the node's folder, which goes with the folder.
//!
//! A change replaces the file atomically and durably, so a crash leaves the state before the change or after it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use host_domain::ids::NodeId;
use host_domain::time::Millis;
use host_runtime::{KvError, KvScope, KvStore, KvUse};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::node_root::{NodeRoot, RUN_DIR, checked_name};
use crate::{durable, time};

/// The folder in `run` of a node.
const KV_DIR: &str = "kv";
/// More than any state that a plugin may keep.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How long the agent keeps the state of a plugin that is no longer assigned to the node.
const KEEP: Duration = Duration::from_hours(30 * 24);
/// How long one access may take; the guest waits for it.
const ACCESS_MAX: Duration = Duration::from_secs(5);

/// The state of plugins in the folders of their nodes.
pub(crate) struct FileKv {
    layout: Layout,
    /// One writer per file.
    turns: Mutex<HashMap<KvScope, Weak<tokio::sync::Mutex<()>>>>,
}

/// The content of a file.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// Since when the plugin is not assigned to the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unused_since: Option<Millis>,
    /// Values in base64.
    values: BTreeMap<String, String>,
}

/// The nodes with the plugins that are assigned to them.
pub(crate) type Used = BTreeMap<String, BTreeSet<String>>;

impl FileKv {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            turns: Mutex::default(),
        }
    }

    /// Reads or changes the state of one plugin and node. `work` says whether the file must be written.
    async fn with<T: Send + 'static>(
        &self,
        scope: &KvScope,
        work: impl FnOnce(&mut State) -> Result<(T, bool), KvError> + Send + 'static,
    ) -> Result<T, KvError> {
        let turn = self.turn(scope);
        let (layout, scope) = (self.layout.clone(), scope.clone());
        let access = async move {
            let turn = turn.lock_owned().await;
            // The work ends also if the guest is stopped meanwhile, and keeps its turn until then.
            durable::blocking(move || {
                let _turn = turn;
                let file = File::of(&layout, &scope)?;
                let mut state = file.read()?;
                Ok(match work(&mut state) {
                    Ok((done, false)) => Ok(done),
                    Ok((done, true)) => {
                        state.unused_since = None;
                        file.write(&state)?;
                        Ok(done)
                    }
                    Err(refused) => Err(refused),
                })
            })
            .await
        };
        match tokio::time::timeout(ACCESS_MAX, access).await {
            Ok(done) => done.map_err(|error| KvError::Unavailable(error.to_string()))?,
            Err(_) => Err(KvError::Unavailable(format!(
                "the agent's disk did not answer within {} s",
                ACCESS_MAX.as_secs()
            ))),
        }
    }

    fn turn(&self, scope: &KvScope) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(scope).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(scope.clone(), Arc::downgrade(&turn));
        turn
    }

    /// Deletes the state of plugins that were not assigned to their node for [`KEEP`].
    pub(crate) async fn forget_unused(&self, used: Used) {
        let layout = self.layout.clone();
        let found = durable::blocking(move || scopes(&layout)).await;
        let scopes = match found {
            Ok(scopes) => scopes,
            Err(error) => {
                tracing::warn!(%error, "the agent can't list the state of plugins; check the disk");
                return;
            }
        };
        for scope in scopes {
            let plugins = used.get(&scope.node);
            let is_used = plugins.is_some_and(|plugins| plugins.contains(&scope.plugin));
            let turn = self.turn(&scope).lock_owned().await;
            let layout = self.layout.clone();
            let name = format!("{}/{}", scope.node, scope.plugin);
            let looked_after = durable::blocking(move || {
                let _turn = turn;
                look_after(&File::of(&layout, &scope)?, is_used, time::now())
            });
            if let Err(error) = looked_after.await {
                tracing::warn!(state = name, %error, "the agent can't look after the state of a plugin");
            }
        }
    }
}

/// Notes since when the state is unused, and deletes it when its time is over.
fn look_after(file: &File, is_used: bool, now: Millis) -> io::Result<()> {
    let mut state = file.read()?;
    match state.unused_since {
        None if is_used => return Ok(()),
        Some(since) if !is_used && now.since(since) > KEEP => return file.root.remove(&file.path),
        Some(_) if !is_used => return Ok(()),
        _ => {}
    }
    state.unused_since = (!is_used).then_some(now);
    file.write(&state)
}

/// Every plugin and node that has state here.
fn scopes(layout: &Layout) -> io::Result<Vec<KvScope>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(layout.nodes())? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<NodeId>().ok()) else {
            continue;
        };
        let Some(root) = NodeRoot::open(layout, id)? else {
            continue;
        };
        let Ok(files) = root.dir.read_dir(Path::new(RUN_DIR).join(KV_DIR)) else {
            continue;
        };
        for file in files {
            let file = file?.file_name();
            let plugin = file.to_str().and_then(|name| name.strip_suffix(".json"));
            // Temporary files of a crash start with a dot, which no name does.
            if let Some(plugin) = plugin.filter(|plugin| checked_name(plugin).is_ok()) {
                found.push(KvScope {
                    plugin: plugin.to_owned(),
                    node: id.to_string(),
                });
            }
        }
    }
    Ok(found)
}

/// The file of one plugin and node.
struct File {
    root: NodeRoot,
    path: PathBuf,
}

impl File {
    fn of(layout: &Layout, scope: &KvScope) -> io::Result<Self> {
        let other = |message: String| io::Error::other(message);
        let id: NodeId = scope
            .node
            .parse()
            .map_err(|_| other("state is kept only for nodes".to_owned()))?;
        let name = checked_name(&scope.plugin).map_err(|error| other(error.to_string()))?;
        let root = NodeRoot::open(layout, id)?;
        Ok(Self {
            root: root.ok_or_else(|| other(format!("node {id} has no folder on this machine")))?,
            path: Path::new(RUN_DIR).join(KV_DIR).join(format!("{name}.json")),
        })
    }

    fn read(&self) -> io::Result<State> {
        let file = match self.root.dir.open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
        serde_json::from_slice(&text).map_err(|_| {
            let path = self.root.path.join(&self.path);
            io::Error::other(format!(
                "{} is damaged; delete the file, and the plugin starts without state",
                path.display()
            ))
        })
    }

    fn write(&self, state: &State) -> io::Result<()> {
        self.root.create_parents(&self.path)?;
        let bytes = serde_json::to_vec(state)?;
        self.root.write(&self.path, &bytes, 0o600)?;
        let folder = Path::new(RUN_DIR).join(KV_DIR);
        // The new name of the file becomes durable with its folder.
        self.root.dir.open(folder)?.sync_all()
    }
}

impl KvStore for FileKv {
    fn get<'a>(
        &'a self,
        scope: &'a KvScope,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, KvError>> {
        let key = key.to_owned();
        Box::pin(self.with(scope, move |state| {
            let value = state.values.get(&key).map(|value| STANDARD.decode(value));
            let value = value.transpose().map_err(|_| damaged(&key))?;
            Ok((value, false))
        }))
    }

    fn set<'a>(
        &'a self,
        scope: &'a KvScope,
        key: &'a str,
        value: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), KvError>> {
        let key = key.to_owned();
        Box::pin(self.with(scope, move |state| {
            let mut used = KvUse::default();
            for (other, kept) in state.values.iter().filter(|(other, _)| **other != key) {
                used.add(other, &STANDARD.decode(kept).map_err(|_| damaged(other))?);
            }
            used.check(&key, &value)?;
            let encoded = STANDARD.encode(&value);
            let is_new = state.values.get(&key) != Some(&encoded);
            state.values.insert(key, encoded);
            Ok(((), is_new))
        }))
    }

    fn delete<'a>(
        &'a self,
        scope: &'a KvScope,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), KvError>> {
        let key = key.to_owned();
        Box::pin(self.with(scope, move |state| {
            Ok(((), state.values.remove(&key).is_some()))
        }))
    }
}

fn damaged(key: &str) -> KvError {
    KvError::Unavailable(format!("the value of `{key}` is damaged; set it again"))
}

#[cfg(test)]
mod tests;
