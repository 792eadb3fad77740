-- Which node has a machine of its own. A claim outlives a node that failed until the machine is clean, or until another node,
-- which begins with a clean machine, takes it over.
CREATE TABLE host_claims (
    host_id        TEXT    NOT NULL PRIMARY KEY REFERENCES hosts (id),
    node_id        TEXT    NOT NULL REFERENCES nodes (id),
    claimed_at     INTEGER NOT NULL,
    is_dirty       INTEGER NOT NULL CHECK (is_dirty IN (0, 1)),
    cleanings      INTEGER NOT NULL,
    clean_after    INTEGER NOT NULL,
    cleaning_until INTEGER NOT NULL
) STRICT;
CREATE INDEX host_claims_node ON host_claims (node_id);
-- Machines of providers are named by these; others are shared by their nodes.
INSERT INTO host_claims (host_id, node_id, claimed_at, is_dirty, cleanings, clean_after, cleaning_until)
SELECT id, COALESCE(
        (SELECT max(nodes.id) FROM nodes WHERE nodes.host_id = hosts.id AND nodes.state NOT IN ('failed', 'terminated')),
        (SELECT max(nodes.id) FROM nodes WHERE nodes.host_id = hosts.id)
    ), created_at, 0, 0, 0, 0
FROM hosts
WHERE name LIKE provider || '/%' AND EXISTS (SELECT 1 FROM nodes WHERE nodes.host_id = hosts.id);
