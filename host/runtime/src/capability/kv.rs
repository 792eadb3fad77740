//! `bellwether:host/kv`: small state that outlives a call, private to the plugin and the node.
//!
//! The process injects the store: a database, files, or memory for tests. Bounds are here, so that all stores have the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;

use crate::bindings::shared::bellwether::host::kv::Host;
use crate::bindings::shared::bellwether::types::failures::Failure;
use crate::state::HostState;

/// Bytes of a key.
const KEY_BYTES_MAX: usize = 256;
/// Bytes of a value.
const VALUE_BYTES_MAX: usize = 16 * 1024;
/// Keys of one plugin and node.
const KEYS_MAX: usize = 64;
/// Bytes of all keys and values of one plugin and node.
const STATE_BYTES_MAX: usize = 256 * 1024;
/// Pairs of plugin and node in the store in memory.
const SCOPES_MAX: usize = 10_000;

/// Whose state it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KvScope {
    /// The plugin's configured name.
    pub plugin: String,
    /// The node that the call is about; empty for calls about none.
    pub node: String,
}

/// The store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The plugin keeps as many keys for this node as it may.
    #[error(
        "the plugin keeps {KEYS_MAX} keys for this node, which is the limit; delete a key first"
    )]
    TooManyKeys,
    /// The plugin's keys and values for this node would take more bytes than they may.
    #[error(
        "the plugin's state for this node would have {bytes} bytes, and the limit is {STATE_BYTES_MAX}; delete a key or keep less"
    )]
    TooManyBytes {
        /// With the value that was refused.
        bytes: usize,
    },
    /// More plugins and nodes have state than the store holds.
    #[error("the store of plugins' state is full")]
    Full,
    /// The store is unavailable; a later call may succeed.
    #[error("the store of plugins' state is unavailable: {0}")]
    Unavailable(String),
}

/// What a plugin keeps for a node, without the key that is being set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvUse {
    /// Number of keys.
    pub keys: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
}

impl KvUse {
    /// Adds a key that is kept.
    pub fn add(&mut self, key: &str, value: &[u8]) {
        self.keys += 1;
        self.bytes += key.len() + value.len();
    }

    /// Whether there is room for this key. Every store checks it before it sets one.
    pub fn check(self, key: &str, value: &[u8]) -> Result<(), KvError> {
        let bytes = self.bytes + key.len() + value.len();
        if self.keys >= KEYS_MAX {
            return Err(KvError::TooManyKeys);
        }
        if bytes > STATE_BYTES_MAX {
            return Err(KvError::TooManyBytes { bytes });
        }
        Ok(())
    }

    /// What is kept beside `key`.
    pub fn beside<'a>(key: &str, all: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut used = Self::default();
        for (other, value) in all.filter(|(other, _)| *other != key) {
            used.add(other, value);
        }
        used
    }
}

/// Where plugins' state is kept.
pub trait KvStore: Send + Sync + 'static {
    /// The value of a key.
    fn get<'a>(
        &'a self,
        scope: &'a KvScope,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, KvError>>;
    /// Sets or replaces a value.
    fn set<'a>(
        &'a self,
        scope: &'a KvScope,
        key: &'a str,
        value: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), KvError>>;
    /// Removes a key; one that is not there is fine.
    fn delete<'a>(&'a self, scope: &'a KvScope, key: &'a str)
    -> BoxFuture<'a, Result<(), KvError>>;
}

/// State in memory: gone when the process ends.
#[derive(Debug, Default)]
pub struct MemoryKv(Mutex<HashMap<KvScope, BTreeMap<String, Vec<u8>>>>);

impl MemoryKv {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<KvScope, BTreeMap<String, Vec<u8>>>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl KvStore for MemoryKv {
    fn get<'a>(
        &'a self,
        scope: &'a KvScope,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, KvError>> {
        let value = self.with(|all| all.get(scope).and_then(|state| state.get(key)).cloned());
        Box::pin(std::future::ready(Ok(value)))
    }

    fn set<'a>(
        &'a self,
        scope: &'a KvScope,
        key: &'a str,
        value: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), KvError>> {
        let done = self.with(|all| {
            if all.len() >= SCOPES_MAX && !all.contains_key(scope) {
                return Err(KvError::Full);
            }
            let state = all.entry(scope.clone()).or_default();
            let kept = state.iter().map(|(key, value)| (key.as_str(), &value[..]));
            KvUse::beside(key, kept).check(key, &value)?;
            state.insert(key.to_owned(), value);
            Ok(())
        });
        Box::pin(std::future::ready(done))
    }

    fn delete<'a>(
        &'a self,
        scope: &'a KvScope,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), KvError>> {
        self.with(|all| {
            let Some(state) = all.get_mut(scope) else {
                return;
            };
            state.remove(key);
            if state.is_empty() {
                all.remove(scope);
            }
        });
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Host for HostState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Failure>> {
        self.count_call()?;
        if let Err(refused) = self.check(&key, 0) {
            return Ok(Err(refused));
        }
        let got = self.plugin.services.kv.get(&self.node.kv_scope, &key).await;
        Ok(got.map_err(|error| Failure::Other(error.to_string())))
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Failure>> {
        self.count_call()?;
        if let Err(refused) = self.check(&key, value.len()) {
            return Ok(Err(refused));
        }
        let set = self
            .plugin
            .services
            .kv
            .set(&self.node.kv_scope, &key, value)
            .await;
        Ok(set.map_err(|error| Failure::Other(error.to_string())))
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), Failure>> {
        self.count_call()?;
        if let Err(refused) = self.check(&key, 0) {
            return Ok(Err(refused));
        }
        let deleted = self
            .plugin
            .services
            .kv
            .delete(&self.node.kv_scope, &key)
            .await;
        Ok(deleted.map_err(|error| Failure::Other(error.to_string())))
    }
}

impl HostState {
    fn check(&self, key: &str, value_bytes: usize) -> Result<(), Failure> {
        if !self.plugin.is_kv_granted {
            return Err(Failure::Denied("`kv` is not granted".to_owned()));
        }
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Failure::Other(format!(
                "a key has 1 to {KEY_BYTES_MAX} bytes, this one has {}",
                key.len()
            )));
        }
        if value_bytes > VALUE_BYTES_MAX {
            return Err(Failure::Other(format!(
                "a value has at most {VALUE_BYTES_MAX} bytes, this one has {value_bytes}"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{KEYS_MAX, KvError, KvScope, KvStore, MemoryKv, VALUE_BYTES_MAX};

    fn scope(plugin: &str, node: &str) -> KvScope {
        KvScope {
            plugin: plugin.into(),
            node: node.into(),
        }
    }

    #[tokio::test]
    async fn state_is_private_to_plugin_and_node() {
        let kv = MemoryKv::default();
        kv.set(&scope("a", "1"), "k", b"v".to_vec()).await.unwrap();
        assert_eq!(kv.get(&scope("a", "1"), "k").await, Ok(Some(b"v".to_vec())));
        assert_eq!(kv.get(&scope("a", "2"), "k").await, Ok(None));
        assert_eq!(kv.get(&scope("b", "1"), "k").await, Ok(None));
    }

    #[tokio::test]
    async fn a_scope_holds_a_bounded_number_of_keys() {
        let kv = MemoryKv::default();
        let own = scope("a", "1");
        for n in 0..KEYS_MAX {
            kv.set(&own, &n.to_string(), vec![]).await.unwrap();
        }
        let refused = kv.set(&own, "one more", vec![]).await;
        assert_eq!(refused, Err(KvError::TooManyKeys));
        assert_eq!(kv.set(&own, "1", vec![1]).await, Ok(()));
        kv.delete(&own, "0").await.unwrap();
        assert_eq!(kv.set(&own, "one more", vec![]).await, Ok(()));
    }

    #[tokio::test]
    async fn a_scope_holds_a_bounded_number_of_bytes() {
        let kv = MemoryKv::default();
        let own = scope("a", "1");
        let value = || vec![7; VALUE_BYTES_MAX];
        for n in 10..25 {
            kv.set(&own, &n.to_string(), value()).await.unwrap();
        }
        let bytes = 16 * (2 + VALUE_BYTES_MAX);
        let refused = kv.set(&own, "25", value()).await.unwrap_err();
        assert_eq!(refused, KvError::TooManyBytes { bytes });
        assert!(
            refused.to_string().contains("the limit is 262144"),
            "{refused}"
        );
        // A value that takes the place of another one counts once.
        assert_eq!(kv.set(&own, "24", value()).await, Ok(()));
        assert_eq!(kv.set(&own, "25", vec![]).await, Ok(()));
    }
}
