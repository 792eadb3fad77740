-- The whole schema. migrations/postgres/0001_init.sql defines the same schema in the other dialect; a test compares the two.
-- Ids are UUIDs as text, times are Unix milliseconds, JSON is text that only the program reads.

-- The installation and its machines ----------------------------------------------------------------------

-- Facts about the installation that every host checks at startup, such as which secrets it has.
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- Who leads, by name. Each tenure has a higher epoch, and writes of an older one are refused.
CREATE TABLE leader_epochs (
    name     TEXT    NOT NULL PRIMARY KEY,
    epoch    INTEGER NOT NULL,
    holder   TEXT    NOT NULL,
    taken_at INTEGER NOT NULL
) STRICT;

-- Access ----------------------------------------------------------------------------------------------

-- API keys, found by their public prefix; of the secret part only a keyed hash is stored.
CREATE TABLE api_keys (
    id           TEXT    NOT NULL PRIMARY KEY,
    prefix       TEXT    NOT NULL,
    hash         TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    scopes       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    created_by   TEXT    NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;
CREATE UNIQUE INDEX api_keys_prefix ON api_keys (prefix);
-- Two living keys never have one name.
CREATE UNIQUE INDEX api_keys_name ON api_keys (name) WHERE revoked_at IS NULL;

-- Answers to requests with an idempotency key, so that a repeated request gets the first answer.
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

-- Who did what, to which object, by which request.
CREATE TABLE audit_log (
    seq     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    actor   TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    object  TEXT    NOT NULL,
    details TEXT    NOT NULL,
    request_id TEXT
) STRICT;
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_actor ON audit_log (actor, seq);
CREATE INDEX audit_log_object ON audit_log (object, seq);

-- Machines and agents ---------------------------------------------------------------------------------

-- Computers that nodes run on.
CREATE TABLE machines (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    provider   TEXT    NOT NULL,
    region     TEXT    NOT NULL,
    ip         TEXT,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX machines_name ON machines (name);

-- Agents that enrolled, one in use per machine.
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

-- Subscriptions ---------------------------------------------------------------------------------------

-- What pays for a node. A subscription without a term (`duration_ms` and `expires_at` are NULL) takes no payment and ends with
-- its node.
CREATE TABLE subscriptions (
    id               TEXT    NOT NULL PRIMARY KEY,
    owner            TEXT    NOT NULL,
    chain_profile_id TEXT    NOT NULL,
    node_type        TEXT    NOT NULL,
    provider         TEXT    NOT NULL,
    region           TEXT    NOT NULL,
    instance_type    TEXT    NOT NULL,
    inputs           TEXT    NOT NULL,
    duration_ms      INTEGER,
    state            TEXT    NOT NULL CHECK (state IN ('pending_payment', 'active', 'past_due', 'suspended', 'canceled', 'expired')),
    payment_id       TEXT,
    expires_at       INTEGER,
    entered_at       INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    version          INTEGER NOT NULL
) STRICT;
-- Of two equal requests at once, one creates the subscription and the other finds it.
CREATE UNIQUE INDEX subscriptions_pending ON subscriptions (owner, chain_profile_id, node_type, duration_ms)
    WHERE state = 'pending_payment';
CREATE INDEX subscriptions_owner ON subscriptions (owner, id);
CREATE INDEX subscriptions_clock ON subscriptions (state, id);

-- What each payment bought, so that a payment that is recorded twice buys nothing more.
CREATE TABLE subscription_payments (
    payment_id      TEXT    NOT NULL PRIMARY KEY,
    subscription_id TEXT    NOT NULL REFERENCES subscriptions (id),
    paid_until      INTEGER NOT NULL,
    recorded_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX subscription_payments_subscription ON subscription_payments (subscription_id);

-- Nodes -----------------------------------------------------------------------------------------------

-- Nodes, with the state that users see.
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
-- A subscription never has a second node.
CREATE UNIQUE INDEX nodes_subscription ON nodes (subscription_id);

-- What happened to a node, for its history.
CREATE TABLE node_events (
    id      TEXT    NOT NULL PRIMARY KEY,
    node_id TEXT    NOT NULL REFERENCES nodes (id),
    at      INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    message TEXT    NOT NULL
) STRICT;
CREATE INDEX node_events_node ON node_events (node_id, id);

-- The newest heartbeat of each node. There is no foreign key: one report about an unknown node must not refuse a whole batch.
CREATE TABLE node_heartbeats (
    node_id        TEXT    NOT NULL PRIMARY KEY,
    last_heartbeat INTEGER NOT NULL,
    beats          INTEGER NOT NULL,
    processes      TEXT    NOT NULL,
    processes_run  INTEGER NOT NULL CHECK (processes_run IN (0, 1))
) STRICT;

-- What the health rules remember about a node between two evaluations.
CREATE TABLE node_health_state (
    node_id              TEXT    NOT NULL PRIMARY KEY REFERENCES nodes (id),
    beats_expected_since INTEGER NOT NULL,
    consecutive_failures INTEGER NOT NULL,
    beats_at_miss        INTEGER NOT NULL,
    verdict_reasons      TEXT    NOT NULL,
    track                TEXT    NOT NULL,
    version              INTEGER NOT NULL
) STRICT;

-- Sealed keys of nodes. The data key is wrapped by a master key that is not in this database; `backup` says where a copy of
-- the key, as it is wrapped now, was read back from.
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
    version      INTEGER NOT NULL,
    backup       TEXT
) STRICT;
CREATE UNIQUE INDEX node_keys_name ON node_keys (node_id, name);
CREATE INDEX node_keys_deletion ON node_keys (delete_after) WHERE delete_after IS NOT NULL;

-- Which node has a machine of its own. A claim outlives a failed node until the machine is clean, or until another node, which
-- starts with a clean machine, takes the claim over.
CREATE TABLE machine_claims (
    machine_id        TEXT    NOT NULL PRIMARY KEY REFERENCES machines (id),
    node_id        TEXT    NOT NULL REFERENCES nodes (id),
    claimed_at     INTEGER NOT NULL,
    is_dirty       INTEGER NOT NULL CHECK (is_dirty IN (0, 1)),
    cleanings      INTEGER NOT NULL,
    clean_after    INTEGER NOT NULL,
    cleaning_until INTEGER NOT NULL
) STRICT;
CREATE INDEX machine_claims_node ON machine_claims (node_id);

-- One-time tokens with which agents enrol; only their hashes are stored.
CREATE TABLE enrolment_tokens (
    hash       TEXT    NOT NULL PRIMARY KEY,
    machine_id    TEXT    NOT NULL REFERENCES machines (id),
    node_id    TEXT    REFERENCES nodes (id),
    expires_at INTEGER NOT NULL,
    used_at    INTEGER,
    revoked_at INTEGER
) STRICT;
CREATE INDEX enrolment_tokens_expiry ON enrolment_tokens (expires_at);

-- Work on nodes ---------------------------------------------------------------------------------------

-- Commands to agents, which run in order per node.
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

-- Long-running work on a node that a person can follow, with its steps.
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
CREATE INDEX operations_workflow ON operations (workflow_id);

-- Moves of a node between machines: what is under way, and when the node last moved.
CREATE TABLE node_migrations (
    operation_id   TEXT    NOT NULL PRIMARY KEY REFERENCES operations (id),
    node_id        TEXT    NOT NULL REFERENCES nodes (id),
    source_machine_id TEXT    NOT NULL REFERENCES machines (id),
    target_machine_id TEXT    REFERENCES machines (id),
    is_forced      INTEGER NOT NULL CHECK (is_forced IN (0, 1)),
    triggered_at   INTEGER NOT NULL,
    fenced_machine_id TEXT    REFERENCES machines (id),
    fenced_at      INTEGER,
    ended_at       INTEGER,
    has_moved      INTEGER NOT NULL CHECK (has_moved IN (0, 1)),
    version        INTEGER NOT NULL
) STRICT;
CREATE INDEX node_migrations_node ON node_migrations (node_id, triggered_at);
CREATE INDEX node_migrations_open ON node_migrations (operation_id) WHERE ended_at IS NULL;

-- Events ----------------------------------------------------------------------------------------------

-- Health transitions that are still to be handled, one at a time per node.
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
    error         TEXT,
    requeued_at   INTEGER
) STRICT;
CREATE UNIQUE INDEX health_event_outbox_id ON health_event_outbox (id);
CREATE INDEX health_event_outbox_node ON health_event_outbox (node_id, seq);

-- Health transitions that could not be handled. `seq` is their place in the outbox, to which an administrator can return them.
CREATE TABLE dead_letters (
    id        TEXT    NOT NULL PRIMARY KEY,
    node_id   TEXT    NOT NULL,
    event     TEXT    NOT NULL,
    attempts  INTEGER NOT NULL,
    error     TEXT    NOT NULL,
    failed_at INTEGER NOT NULL,
    seq       INTEGER NOT NULL
) STRICT;

-- Health transitions for the event bus. Sent ones stay for a while, because the bus may confirm an event before its disk has
-- it.
CREATE TABLE bus_outbox (
    seq     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id      TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    event   TEXT    NOT NULL,
    sent_at INTEGER
) STRICT;
CREATE UNIQUE INDEX bus_outbox_id ON bus_outbox (id);
CREATE INDEX bus_outbox_waiting ON bus_outbox (seq) WHERE sent_at IS NULL;
CREATE INDEX bus_outbox_sent ON bus_outbox (sent_at, seq) WHERE sent_at IS NOT NULL;

-- The number of the newest entry of the event log. Its row lock makes the order of numbers the order of commits, so that a
-- reader never misses an entry.
CREATE TABLE event_log_head (
    id  INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO event_log_head (id, seq) VALUES (1, 0);

-- Events for clients that follow the machine, which resume by number.
CREATE TABLE event_log (
    seq     INTEGER NOT NULL PRIMARY KEY,
    at      INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    node_id TEXT,
    chain   TEXT,
    payload TEXT    NOT NULL
) STRICT;
CREATE INDEX event_log_at ON event_log (at);

-- Incidents and notifications -------------------------------------------------------------------------

-- Incidents of nodes, plugins and machines; at most one per subject and category is unresolved.
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

-- What happened to an incident, for its history.
CREATE TABLE incident_events (
    id          TEXT    NOT NULL PRIMARY KEY,
    incident_id TEXT    NOT NULL REFERENCES incidents (id),
    at          INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    actor       TEXT    NOT NULL,
    message     TEXT    NOT NULL
) STRICT;
CREATE INDEX incident_events_incident ON incident_events (incident_id, id);

-- Notifications to receivers. A notification takes in further incidents until it is first claimed (`sealed`); later incidents
-- get a new one.
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

-- Which incidents a notification is about.
CREATE TABLE notification_incidents (
    notification_id TEXT NOT NULL REFERENCES notifications (id) ON DELETE CASCADE,
    incident_id     TEXT NOT NULL REFERENCES incidents (id),
    PRIMARY KEY (notification_id, incident_id)
) STRICT;
CREATE INDEX notification_incidents_incident ON notification_incidents (incident_id);

-- Observations ----------------------------------------------------------------------------------------

-- Measured values of nodes over time. There is no foreign key, for the reason given at `node_heartbeats`.
CREATE TABLE observations (
    node_id TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    value   TEXT    NOT NULL,
    PRIMARY KEY (node_id, name, at)
) STRICT, WITHOUT ROWID;
CREATE INDEX observations_at ON observations (at);

-- The newest value of each observation.
CREATE TABLE observation_latest (
    node_id TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    value   TEXT    NOT NULL,
    PRIMARY KEY (node_id, name)
) STRICT, WITHOUT ROWID;

-- Plugins ---------------------------------------------------------------------------------------------

-- State that plugins of the host keep between calls. `node_id` is empty for state that is about no node.
CREATE TABLE plugin_kv (
    plugin       TEXT    NOT NULL,
    node_id      TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    value        BLOB    NOT NULL,
    bytes        INTEGER NOT NULL,
    delete_after INTEGER,
    PRIMARY KEY (plugin, node_id, key)
) STRICT;
CREATE INDEX plugin_kv_node ON plugin_kv (node_id);
CREATE INDEX plugin_kv_deletion ON plugin_kv (delete_after) WHERE delete_after IS NOT NULL;

-- Loaded versions of plugins; at most one per plugin is active.
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
