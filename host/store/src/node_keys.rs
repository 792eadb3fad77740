//! Encrypted keys of nodes.

use host_domain::ids::{KeyId, NodeId};
use host_domain::key::{NodeKey, SealedKey};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, sql};

impl FromRow for NodeKey {
    const TABLE: &'static str = "node_keys";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            id: row.parsed("id")?,
            node_id: row.parsed("node_id")?,
            name: row.text("name")?,
            algorithm: row.parsed("algorithm")?,
            public_key: row.bytes("public_key")?,
            sealed: SealedKey {
                master_key: row.text("master_key")?,
                data_key: row.bytes("data_key")?,
                material: row.bytes("material")?,
            },
            created_at: row.millis("created_at")?,
            delete_after: row.millis_opt("delete_after")?,
            backup: row.text_opt("backup")?,
            version: row.int("version")?,
        })
    }
}

impl Reader {
    /// The keys of a node by name. A chain declares few, so there is no pagination.
    pub async fn node_keys(&self, node: NodeId) -> Result<Vec<NodeKey>, StoreError> {
        const SQL: &str = "SELECT * FROM node_keys WHERE node_id = $1 ORDER BY name LIMIT 1000";
        self.all(sql(SQL).bind(node)).await
    }

    /// One key of a node.
    pub async fn node_key(&self, node: NodeId, name: &str) -> Result<Option<NodeKey>, StoreError> {
        const SQL: &str = "SELECT * FROM node_keys WHERE node_id = $1 AND name = $2";
        self.first(sql(SQL).bind(node).bind(name)).await
    }

    /// Keys whose master key is not `newest`, by id, after `after`.
    pub async fn node_keys_not_wrapped_by(
        &self,
        newest: &str,
        after: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<NodeKey>, StoreError> {
        const SQL: &str = "SELECT * FROM node_keys
            WHERE master_key <> $1 AND id > $2 ORDER BY id LIMIT $3";
        let after = after.map_or_else(String::new, |id| id.to_string());
        self.all(sql(SQL).bind(newest).bind(after).bind(limit))
            .await
    }
}

impl Reader {
    /// At most `limit` keys whose retention is over.
    pub async fn retired_node_keys(
        &self,
        now: Millis,
        limit: u32,
    ) -> Result<Vec<NodeKey>, StoreError> {
        const SQL: &str = "SELECT * FROM node_keys WHERE delete_after <= $1
            ORDER BY delete_after, id LIMIT $2";
        self.all(sql(SQL).bind(now).bind(limit)).await
    }

    /// Keys without a backup in that place, by id, after `after`.
    pub async fn node_keys_not_backed_up(
        &self,
        place: &str,
        after: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<NodeKey>, StoreError> {
        const SQL: &str = "SELECT * FROM node_keys
            WHERE (backup IS NULL OR backup <> $1) AND id > $2 ORDER BY id LIMIT $3";
        let after = after.map_or_else(String::new, |id| id.to_string());
        self.all(sql(SQL).bind(place).bind(after).bind(limit)).await
    }
}

impl Tx {
    /// Inserts a key; `false` when the node has one of that name, which stays.
    pub async fn insert_node_key(&mut self, key: &NodeKey) -> Result<bool, StoreError> {
        const SQL: &str =
            "INSERT INTO node_keys (id, node_id, name, algorithm, public_key, master_key,
                data_key, material, created_at, delete_after, backup, version)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            ON CONFLICT (node_id, name) DO NOTHING";
        let stmt = sql(SQL)
            .bind(key.id)
            .bind(key.node_id)
            .bind(&key.name)
            .bind(key.algorithm.as_str())
            .bind(&key.public_key[..])
            .bind(&key.sealed.master_key)
            .bind(&key.sealed.data_key[..])
            .bind(&key.sealed.material[..])
            .bind(key.created_at)
            .bind(key.delete_after)
            .bind(key.backup.as_deref())
            .bind(key.version);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Replaces the wrapping of a key and the location of its backup, unless the key changed; `false` means to read
    /// it again.
    pub async fn rewrap_node_key(
        &mut self,
        id: KeyId,
        seen: i64,
        sealed: &SealedKey,
        backup: Option<&str>,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE node_keys
            SET master_key = $1, data_key = $2, backup = $3, version = version + 1
            WHERE id = $4 AND version = $5";
        let stmt = sql(SQL)
            .bind(&sealed.master_key)
            .bind(&sealed.data_key[..])
            .bind(backup)
            .bind(id)
            .bind(seen);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Sets the location of a key's backup, unless the key changed since; `false` means to read it again.
    pub async fn mark_node_key_backed_up(
        &mut self,
        id: KeyId,
        seen: i64,
        backup: &str,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE node_keys SET backup = $1, version = version + 1
            WHERE id = $2 AND version = $3";
        let stmt = sql(SQL).bind(backup).bind(id).bind(seen);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Sets when a node's keys will be deleted, except for keys that have such a time. Returns the number of changed
    /// keys.
    pub async fn retire_node_keys(
        &mut self,
        node: NodeId,
        delete_after: Millis,
    ) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE node_keys SET delete_after = $1, version = version + 1
            WHERE node_id = $2 AND delete_after IS NULL";
        self.execute(sql(SQL).bind(delete_after).bind(node)).await
    }

    /// Deletes the keys of a node at once, and returns their number.
    pub async fn delete_node_keys(&mut self, node: NodeId) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM node_keys WHERE node_id = $1";
        self.execute(sql(SQL).bind(node)).await
    }

    /// Deletes a key after its backup was deleted; `false` when it was deleted already.
    pub async fn delete_node_key(&mut self, id: KeyId) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM node_keys WHERE id = $1";
        Ok(self.execute(sql(SQL).bind(id)).await? == 1)
    }
}
