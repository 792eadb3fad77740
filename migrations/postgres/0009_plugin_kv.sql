-- State that plugins of the host keep between calls. `node_id` is empty for state that is about no node.
CREATE TABLE plugin_kv (
    plugin       TEXT    NOT NULL,
    node_id      TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    value        BYTEA   NOT NULL,
    bytes        BIGINT  NOT NULL,
    delete_after BIGINT,
    PRIMARY KEY (plugin, node_id, key)
);
CREATE INDEX plugin_kv_node ON plugin_kv (node_id);
CREATE INDEX plugin_kv_deletion ON plugin_kv (delete_after) WHERE delete_after IS NOT NULL;
