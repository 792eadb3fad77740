-- The whole schema, version 1. migrations/postgres/0001_init.sql says the same in the other dialect; a test compares them.
-- Ids are UUIDs as text, times are Unix milliseconds, JSON is text that only the program reads.

CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE leader_epochs (
    name     TEXT    NOT NULL PRIMARY KEY,
    epoch    INTEGER NOT NULL,
    holder   TEXT    NOT NULL,
    taken_at INTEGER NOT NULL
) STRICT;

CREATE TABLE machines (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    provider   TEXT    NOT NULL,
    region     TEXT    NOT NULL,
    ip         TEXT,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX machines_name ON machines (name);

CREATE TABLE agents (
    id                    TEXT    NOT NULL PRIMARY KEY,
    machine_id               TEXT    NOT NULL REFERENCES machines (id),
    name                  TEXT    NOT NULL,
    version               TEXT    NOT NULL,
    certificate_not_after INTEGER NOT NULL,
    last_seen_at          INTEGER,
    revoked_at            INTEGER,
    created_at            INTEGER NOT NULL
) STRICT;
CREATE INDEX agents_machine ON agents (machine_id);

CREATE TABLE nodes (
    id                 TEXT    NOT NULL PRIMARY KEY,
    subscription_id    TEXT    NOT NULL,
    name               TEXT    NOT NULL,
    chain_profile_id   TEXT    NOT NULL,
    node_type          TEXT    NOT NULL,
    state              TEXT    NOT NULL CHECK (state IN ('provisioning', 'syncing', 'healthy', 'degraded', 'down', 'maintenance', 'terminating', 'terminated', 'failed')),
    sync_status        TEXT    NOT NULL CHECK (sync_status IN ('unknown', 'syncing', 'synced')),
    application_health TEXT    NOT NULL CHECK (application_health IN ('unknown', 'ok', 'degraded', 'critical')),
    display_state      TEXT    NOT NULL,
    reasons            TEXT    NOT NULL,
    machine_id            TEXT    REFERENCES machines (id),
    placement          TEXT    NOT NULL,
    ports              TEXT    NOT NULL,
    binary_versions    TEXT    NOT NULL,
    inputs             TEXT    NOT NULL,
    operation_id       TEXT,
    state_version      INTEGER NOT NULL,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX nodes_live_name ON nodes (name) WHERE state NOT IN ('terminated', 'failed');
CREATE INDEX nodes_chain ON nodes (chain_profile_id, id);
CREATE INDEX nodes_state ON nodes (state, id);
CREATE INDEX nodes_machine ON nodes (machine_id);

CREATE TABLE enrolment_tokens (
    hash       TEXT    NOT NULL PRIMARY KEY,
    machine_id    TEXT    NOT NULL REFERENCES machines (id),
    node_id    TEXT    REFERENCES nodes (id),
    expires_at INTEGER NOT NULL,
    used_at    INTEGER,
    revoked_at INTEGER
) STRICT;
CREATE INDEX enrolment_tokens_expiry ON enrolment_tokens (expires_at);

-- No foreign key: one report about a node that is unknown here must not refuse a whole batch.
CREATE TABLE node_heartbeats (
    node_id        TEXT    NOT NULL PRIMARY KEY,
    last_heartbeat INTEGER NOT NULL,
    beats          INTEGER NOT NULL,
    processes      TEXT    NOT NULL,
    processes_run  INTEGER NOT NULL CHECK (processes_run IN (0, 1))
) STRICT;

CREATE TABLE node_health_state (
    node_id              TEXT    NOT NULL PRIMARY KEY REFERENCES nodes (id),
    beats_expected_since INTEGER NOT NULL,
    consecutive_failures INTEGER NOT NULL,
    beats_at_miss        INTEGER NOT NULL,
    verdict_reasons      TEXT    NOT NULL,
    track                TEXT    NOT NULL,
    version              INTEGER NOT NULL
) STRICT;

CREATE TABLE node_events (
    id      TEXT    NOT NULL PRIMARY KEY,
    node_id TEXT    NOT NULL REFERENCES nodes (id),
    at      INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    message TEXT    NOT NULL
) STRICT;
CREATE INDEX node_events_node ON node_events (node_id, id);

CREATE TABLE health_event_outbox (
    seq           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id            TEXT    NOT NULL,
    node_id       TEXT    NOT NULL,
    at            INTEGER NOT NULL,
    event         TEXT    NOT NULL,
    attempts      INTEGER NOT NULL,
    due_at        INTEGER NOT NULL,
    claimed_by    TEXT,
    claimed_until INTEGER NOT NULL,
    error         TEXT
) STRICT;
CREATE UNIQUE INDEX health_event_outbox_id ON health_event_outbox (id);
CREATE INDEX health_event_outbox_node ON health_event_outbox (node_id, seq);

CREATE TABLE dead_letters (
    id        TEXT    NOT NULL PRIMARY KEY,
    node_id   TEXT    NOT NULL,
    event     TEXT    NOT NULL,
    attempts  INTEGER NOT NULL,
    error     TEXT    NOT NULL,
    failed_at INTEGER NOT NULL
) STRICT;

-- The head's row lock makes the order of sequence numbers the order of commits, so that a reader never misses a row.
CREATE TABLE event_log_head (
    id  INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO event_log_head (id, seq) VALUES (1, 0);

CREATE TABLE event_log (
    seq     INTEGER NOT NULL PRIMARY KEY,
    at      INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    node_id TEXT,
    chain   TEXT,
    payload TEXT    NOT NULL
) STRICT;
CREATE INDEX event_log_at ON event_log (at);

CREATE TABLE incidents (
    id              TEXT    NOT NULL PRIMARY KEY,
    subject_kind    TEXT    NOT NULL CHECK (subject_kind IN ('node', 'plugin', 'machine')),
    subject_id      TEXT    NOT NULL,
    category        TEXT    NOT NULL,
    subject_name    TEXT    NOT NULL,
    labels          TEXT    NOT NULL,
    severity        TEXT    NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    state           TEXT    NOT NULL CHECK (state IN ('open', 'acknowledged', 'escalated', 'resolved')),
    title           TEXT    NOT NULL,
    reasons         TEXT    NOT NULL,
    occurrences     INTEGER NOT NULL,
    opened_at       INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    acknowledged_by TEXT,
    resolved_at     INTEGER,
    version         INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX incidents_unresolved ON incidents (subject_kind, subject_id, category) WHERE state <> 'resolved';
CREATE INDEX incidents_key ON incidents (subject_kind, subject_id, category, id);
CREATE INDEX incidents_state ON incidents (state, id);

CREATE TABLE incident_events (
    id          TEXT    NOT NULL PRIMARY KEY,
    incident_id TEXT    NOT NULL REFERENCES incidents (id),
    at          INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    actor       TEXT    NOT NULL,
    message     TEXT    NOT NULL
) STRICT;
CREATE INDEX incident_events_incident ON incident_events (incident_id, id);

-- A message takes in further incidents until it is claimed for the first time (`sealed`); later ones make a new message.
CREATE TABLE notifications (
    id            TEXT    NOT NULL PRIMARY KEY,
    route         TEXT    NOT NULL,
    receiver      TEXT    NOT NULL,
    group_key     TEXT    NOT NULL,
    status        TEXT    NOT NULL CHECK (status IN ('firing', 'resolved')),
    state         TEXT    NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    sealed        INTEGER NOT NULL CHECK (sealed IN (0, 1)),
    due_at        INTEGER NOT NULL,
    claimed_until INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    outcome       TEXT,
    created_at    INTEGER NOT NULL,
    finished_at   INTEGER
) STRICT;
CREATE UNIQUE INDEX notifications_joinable ON notifications (route, group_key, status) WHERE sealed = 0;
CREATE INDEX notifications_due ON notifications (due_at) WHERE state = 'pending';
CREATE INDEX notifications_group ON notifications (route, group_key, id);

CREATE TABLE notification_incidents (
    notification_id TEXT NOT NULL REFERENCES notifications (id) ON DELETE CASCADE,
    incident_id     TEXT NOT NULL REFERENCES incidents (id),
    PRIMARY KEY (notification_id, incident_id)
) STRICT;
CREATE INDEX notification_incidents_incident ON notification_incidents (incident_id);

-- No foreign keys, as with heartbeats.
CREATE TABLE observations (
    node_id TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    value   TEXT    NOT NULL,
    PRIMARY KEY (node_id, name, at)
) STRICT, WITHOUT ROWID;
CREATE INDEX observations_at ON observations (at);

CREATE TABLE observation_latest (
    node_id TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    value   TEXT    NOT NULL,
    PRIMARY KEY (node_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE commands (
    seq         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id          TEXT    NOT NULL,
    node_id     TEXT    NOT NULL REFERENCES nodes (id),
    agent_id    TEXT    NOT NULL REFERENCES agents (id),
    kind        TEXT    NOT NULL,
    payload     BLOB    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('queued', 'delivered', 'accepted', 'succeeded', 'failed', 'stuck')),
    result      TEXT,
    workflow_id TEXT,
    mailbox     TEXT,
    deadline    INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX commands_id ON commands (id);
CREATE INDEX commands_node ON commands (node_id, seq);
CREATE INDEX commands_pending ON commands (agent_id, seq) WHERE state IN ('queued', 'delivered');

CREATE TABLE operations (
    id          TEXT    NOT NULL PRIMARY KEY,
    kind        TEXT    NOT NULL,
    node_id     TEXT    NOT NULL REFERENCES nodes (id),
    workflow_id TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('running', 'undoing', 'succeeded', 'failed', 'cancelled')),
    steps       TEXT    NOT NULL,
    error       TEXT,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    version     INTEGER NOT NULL
) STRICT;
CREATE INDEX operations_node ON operations (node_id, id);

CREATE TABLE plugin_revisions (
    id           TEXT    NOT NULL PRIMARY KEY,
    scope        TEXT    NOT NULL,
    plugin       TEXT    NOT NULL,
    kind         TEXT,
    generation   INTEGER NOT NULL,
    digest       TEXT    NOT NULL,
    terms        TEXT    NOT NULL,
    description  TEXT,
    state        TEXT    NOT NULL CHECK (state IN ('staged', 'validated', 'ready', 'active', 'retired', 'rejected', 'broken')),
    reason       TEXT,
    created_at   INTEGER NOT NULL,
    activated_at INTEGER
) STRICT;
CREATE UNIQUE INDEX plugin_revisions_generation ON plugin_revisions (scope, plugin, generation);
CREATE UNIQUE INDEX plugin_revisions_active ON plugin_revisions (scope, plugin) WHERE state = 'active';

CREATE TABLE api_keys (
    prefix     TEXT    NOT NULL PRIMARY KEY,
    hash       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    scopes     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE idempotency_keys (
    principal  TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    body_hash  TEXT    NOT NULL,
    status     INTEGER NOT NULL,
    response   TEXT    NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (principal, key)
) STRICT;
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

CREATE TABLE audit_log (
    seq     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    actor   TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    target  TEXT    NOT NULL,
    details TEXT    NOT NULL
) STRICT;
