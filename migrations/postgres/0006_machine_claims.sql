-- Which node has a machine of its own. A claim outlives a node that failed until the machine is clean, or until another node,
-- which begins with a clean machine, takes it over.
CREATE TABLE machine_claims (
    machine_id        TEXT    NOT NULL PRIMARY KEY REFERENCES machines (id),
    node_id        TEXT    NOT NULL REFERENCES nodes (id),
    claimed_at     BIGINT  NOT NULL,
    is_dirty       BIGINT  NOT NULL CHECK (is_dirty IN (0, 1)),
    cleanings      BIGINT  NOT NULL,
    clean_after    BIGINT  NOT NULL,
    cleaning_until BIGINT  NOT NULL
);
CREATE INDEX machine_claims_node ON machine_claims (node_id);
-- Machines of providers are named by these; others are shared by their nodes.
INSERT INTO machine_claims (machine_id, node_id, claimed_at, is_dirty, cleanings, clean_after, cleaning_until)
SELECT id, COALESCE(
        (SELECT max(nodes.id) FROM nodes WHERE nodes.machine_id = machines.id AND nodes.state NOT IN ('failed', 'terminated')),
        (SELECT max(nodes.id) FROM nodes WHERE nodes.machine_id = machines.id)
    ), created_at, 0, 0, 0, 0
FROM machines
WHERE name LIKE provider || '/%' AND EXISTS (SELECT 1 FROM nodes WHERE nodes.machine_id = machines.id);
