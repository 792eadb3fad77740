//! State that plugins of the host keep between calls.

use host_domain::ids::NodeId;
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, sql};

/// Whose state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginKvScope<'a> {
    /// The plugin's name in the configuration.
    pub plugin: &'a str,
    /// The node; empty for state that is about no node.
    pub node: &'a str,
}

/// How much a plugin keeps for a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginKvUse {
    /// Number of keys.
    pub keys: i64,
    /// Bytes of keys and values.
    pub bytes: i64,
}

struct Value(Vec<u8>);
struct Plugin(String);

impl FromRow for Value {
    const TABLE: &'static str = "plugin_kv";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        row.bytes("value").map(Self)
    }
}

impl FromRow for Plugin {
    const TABLE: &'static str = "plugin_kv";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        row.text("plugin").map(Self)
    }
}

impl FromRow for PluginKvUse {
    const TABLE: &'static str = "plugin_kv";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            keys: row.int("n_keys")?,
            bytes: row.int("n_bytes")?,
        })
    }
}

impl Reader {
    /// The value of a key.
    pub async fn plugin_kv(
        &self,
        scope: PluginKvScope<'_>,
        key: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        const SQL: &str =
            "SELECT value FROM plugin_kv WHERE plugin = $1 AND node_id = $2 AND key = $3";
        let stmt = sql(SQL).bind(scope.plugin).bind(scope.node).bind(key);
        let found: Option<Value> = self.first(stmt).await?;
        Ok(found.map(|Value(value)| value))
    }

    /// How much is kept beside `key`.
    pub async fn plugin_kv_use(
        &self,
        scope: PluginKvScope<'_>,
        key: &str,
    ) -> Result<PluginKvUse, StoreError> {
        const SQL: &str =
            "SELECT COUNT(*) AS n_keys, CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS n_bytes
            FROM plugin_kv WHERE plugin = $1 AND node_id = $2 AND key <> $3";
        let stmt = sql(SQL).bind(scope.plugin).bind(scope.node).bind(key);
        Ok(self.first(stmt).await?.unwrap_or_default())
    }

    /// The plugins that keep something, at most `limit`.
    pub async fn plugins_with_kv(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        const SQL: &str = "SELECT DISTINCT plugin FROM plugin_kv ORDER BY plugin LIMIT $1";
        let found: Vec<Plugin> = self.all(sql(SQL).bind(limit)).await?;
        Ok(found.into_iter().map(|Plugin(name)| name).collect())
    }
}

impl Tx {
    /// Sets or replaces the value of a key.
    pub async fn set_plugin_kv(
        &mut self,
        scope: PluginKvScope<'_>,
        key: &str,
        value: &[u8],
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO plugin_kv (plugin, node_id, key, value, bytes, delete_after)
            VALUES ($1, $2, $3, $4, $5, NULL)
            ON CONFLICT (plugin, node_id, key) DO UPDATE
            SET value = excluded.value, bytes = excluded.bytes, delete_after = NULL";
        let bytes = i64::try_from(key.len() + value.len()).unwrap_or(i64::MAX);
        let stmt = sql(SQL)
            .bind(scope.plugin)
            .bind(scope.node)
            .bind(key)
            .bind(value)
            .bind(bytes);
        self.execute(stmt).await?;
        Ok(())
    }

    /// Deletes a key; `false` when there is none.
    pub async fn delete_plugin_kv(
        &mut self,
        scope: PluginKvScope<'_>,
        key: &str,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM plugin_kv WHERE plugin = $1 AND node_id = $2 AND key = $3";
        let stmt = sql(SQL).bind(scope.plugin).bind(scope.node).bind(key);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Deletes what all plugins keep for a node, and returns the number of keys.
    pub async fn delete_plugin_kv_of_node(&mut self, node: NodeId) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM plugin_kv WHERE node_id = $1";
        self.execute(sql(SQL).bind(node)).await
    }

    /// Keeps the state of a plugin that is configured.
    pub async fn keep_plugin_kv(&mut self, plugin: &str) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE plugin_kv SET delete_after = NULL
            WHERE plugin = $1 AND delete_after IS NOT NULL";
        self.execute(sql(SQL).bind(plugin)).await
    }

    /// Sets when the state of a plugin that is no longer configured is deleted; state that has a time keeps it.
    pub async fn retire_plugin_kv(
        &mut self,
        plugin: &str,
        delete_after: Millis,
    ) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE plugin_kv SET delete_after = $1
            WHERE plugin = $2 AND delete_after IS NULL";
        self.execute(sql(SQL).bind(delete_after).bind(plugin)).await
    }

    /// Deletes state whose time is over.
    pub async fn prune_plugin_kv(&mut self, now: Millis) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM plugin_kv WHERE delete_after <= $1";
        self.execute(sql(SQL).bind(now)).await
    }
}
