//! The state of this host's plugins in its database.

use std::time::Duration;

use futures_util::future::BoxFuture;
use host_runtime::{KvError, KvScope, KvStore, KvUse};
use host_store::{Db, PluginKvScope, StoreError, retried};

/// How long one access may take; the guest waits for it.
const ACCESS_MAX: Duration = Duration::from_secs(5);

/// The state of plugins in the database.
pub(crate) struct DbKv(Db);

impl DbKv {
    pub(crate) fn new(db: Db) -> Self {
        Self(db)
    }

    async fn set_once(
        &self,
        scope: PluginKvScope<'_>,
        key: &str,
        value: &[u8],
    ) -> Result<Result<(), KvError>, StoreError> {
        let mut tx = self.0.begin().await?;
        let used = tx.plugin_kv_use(scope, key).await?;
        let count = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
        let used = KvUse {
            keys: count(used.keys),
            bytes: count(used.bytes),
        };
        if let Err(refused) = used.check(key, value) {
            return Ok(Err(refused));
        }
        tx.set_plugin_kv(scope, key, value).await?;
        tx.commit().await?;
        Ok(Ok(()))
    }

    async fn delete_once(&self, scope: PluginKvScope<'_>, key: &str) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        tx.delete_plugin_kv(scope, key).await?;
        tx.commit().await
    }
}

impl KvStore for DbKv {
    fn get<'a>(
        &'a self,
        scope: &'a KvScope,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, KvError>> {
        Box::pin(bounded(self.0.plugin_kv(of(scope), key)))
    }

    fn set<'a>(
        &'a self,
        scope: &'a KvScope,
        key: &'a str,
        value: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), KvError>> {
        Box::pin(async move { bounded(retried(|| self.set_once(of(scope), key, &value))).await? })
    }

    fn delete<'a>(
        &'a self,
        scope: &'a KvScope,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), KvError>> {
        Box::pin(bounded(retried(|| self.delete_once(of(scope), key))))
    }
}

fn of(scope: &KvScope) -> PluginKvScope<'_> {
    PluginKvScope {
        plugin: &scope.plugin,
        node: &scope.node,
    }
}

async fn bounded<T>(access: impl Future<Output = Result<T, StoreError>>) -> Result<T, KvError> {
    match tokio::time::timeout(ACCESS_MAX, access).await {
        Ok(done) => done.map_err(|error| {
            tracing::warn!(error = %format!("{:#}", anyhow::Error::from(error)), "a plugin's state can't be accessed");
            KvError::Unavailable("the host's database failed".to_owned())
        }),
        Err(_) => Err(KvError::Unavailable(format!(
            "the host's database did not answer within {} s",
            ACCESS_MAX.as_secs()
        ))),
    }
}
