-- API keys have an id, an owner, an expiry and a last use; the audit log names objects and requests.

DROP TABLE api_keys;

-- API keys, found by their public prefix; of the secret part only a keyed hash is stored.
CREATE TABLE api_keys (
    id           TEXT   NOT NULL PRIMARY KEY,
    prefix       TEXT   NOT NULL,
    hash         TEXT   NOT NULL,
    name         TEXT   NOT NULL,
    scopes       TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    created_by   TEXT   NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT,
    revoked_at   BIGINT
);
CREATE UNIQUE INDEX api_keys_prefix ON api_keys (prefix);
-- Two living keys never have one name.
CREATE UNIQUE INDEX api_keys_name ON api_keys (name) WHERE revoked_at IS NULL;

-- Who did what, to which object, by which request.
ALTER TABLE audit_log RENAME COLUMN target TO object;
ALTER TABLE audit_log ADD COLUMN request_id TEXT;
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_actor ON audit_log (actor, seq);
CREATE INDEX audit_log_object ON audit_log (object, seq);
