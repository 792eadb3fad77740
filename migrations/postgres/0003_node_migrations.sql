-- Moves of nodes between machines: what is on its way, and when a node was last moved.
CREATE TABLE node_migrations (
    operation_id   TEXT    NOT NULL PRIMARY KEY REFERENCES operations (id),
    node_id        TEXT    NOT NULL REFERENCES nodes (id),
    source_machine_id TEXT    NOT NULL REFERENCES machines (id),
    target_machine_id TEXT    REFERENCES machines (id),
    is_forced      BIGINT NOT NULL CHECK (is_forced IN (0, 1)),
    triggered_at   BIGINT NOT NULL,
    fenced_machine_id TEXT    REFERENCES machines (id),
    fenced_at      BIGINT,
    ended_at       BIGINT,
    has_moved      BIGINT NOT NULL CHECK (has_moved IN (0, 1)),
    version        BIGINT NOT NULL
);
CREATE INDEX node_migrations_node ON node_migrations (node_id, triggered_at);
CREATE INDEX node_migrations_open ON node_migrations (operation_id) WHERE ended_at IS NULL;
CREATE INDEX operations_workflow ON operations (workflow_id);
