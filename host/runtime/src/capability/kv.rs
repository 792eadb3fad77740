//! `bellwether:host/kv`: small state that outlives a call, private to the plugin and the node.
//!
//! The process injects the store; the default one keeps it in memory. Bounds are kept here, so that no store can forget them.

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
/// Keys of one plugin and node in the store in memory.
const KEYS_MAX: usize = 64;
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
    /// No room; the plugin should delete something.
    #[error("the plugin's state is full")]
    Full,
    /// The store can't be reached.
    #[error("the store of the plugin's state does not answer: {0}")]
    Unavailable(String),
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
            if state.len() >= KEYS_MAX && !state.contains_key(key) {
                return Err(KvError::Full);
            }
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
    use super::{KEYS_MAX, KvError, KvScope, KvStore, MemoryKv};

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
        assert_eq!(kv.set(&own, "one more", vec![]).await, Err(KvError::Full));
        kv.delete(&own, "0").await.unwrap();
        assert_eq!(kv.set(&own, "one more", vec![]).await, Ok(()));
    }
}
