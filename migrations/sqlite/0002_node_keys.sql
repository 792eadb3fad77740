-- Keys of nodes, sealed: the data key is wrapped by a master key that is not in this database.
CREATE TABLE node_keys (
    id           TEXT    NOT NULL PRIMARY KEY,
    node_id      TEXT    NOT NULL REFERENCES nodes (id),
    name         TEXT    NOT NULL,
    algorithm    TEXT    NOT NULL CHECK (algorithm IN ('ed25519', 'secp256k1', 'x25519', 'bytes32')),
    public_key   BLOB    NOT NULL,
    master_key   TEXT    NOT NULL,
    data_key     BLOB    NOT NULL,
    material     BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    delete_after INTEGER,
    version      INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX node_keys_name ON node_keys (node_id, name);
CREATE INDEX node_keys_deletion ON node_keys (delete_after) WHERE delete_after IS NOT NULL;
