-- What nodes are paid by. One without a term (`duration_ms` and `expires_at` empty) takes no payment and ends with its node.
CREATE TABLE subscriptions (
    id               TEXT    NOT NULL PRIMARY KEY,
    owner            TEXT    NOT NULL,
    chain_profile_id TEXT    NOT NULL,
    node_type        TEXT    NOT NULL,
    provider         TEXT    NOT NULL,
    region           TEXT    NOT NULL,
    instance_type    TEXT    NOT NULL,
    inputs           TEXT    NOT NULL,
    duration_ms      BIGINT,
    state            TEXT    NOT NULL CHECK (state IN ('pending_payment', 'active', 'past_due', 'suspended', 'canceled', 'expired')),
    payment_id       TEXT,
    expires_at       BIGINT,
    entered_at       BIGINT  NOT NULL,
    created_at       BIGINT  NOT NULL,
    updated_at       BIGINT  NOT NULL,
    version          BIGINT  NOT NULL
);
-- Of two equal wishes at once one is made, and the other finds it.
CREATE UNIQUE INDEX subscriptions_pending ON subscriptions (owner, chain_profile_id, node_type, duration_ms)
    WHERE state = 'pending_payment';
CREATE INDEX subscriptions_owner ON subscriptions (owner, id);
CREATE INDEX subscriptions_clock ON subscriptions (state, id);

-- What each payment bought: one that comes again buys nothing more.
CREATE TABLE subscription_payments (
    payment_id      TEXT    NOT NULL PRIMARY KEY,
    subscription_id TEXT    NOT NULL REFERENCES subscriptions (id),
    paid_until      BIGINT  NOT NULL,
    recorded_at     BIGINT  NOT NULL
);
CREATE INDEX subscription_payments_subscription ON subscription_payments (subscription_id);

-- A subscription never has a second node.
CREATE UNIQUE INDEX nodes_subscription ON nodes (subscription_id);

-- Nodes of before there were subscriptions, each with one of its own.
INSERT INTO subscriptions (id, owner, chain_profile_id, node_type, provider, region, instance_type, inputs, duration_ms,
    state, payment_id, expires_at, entered_at, created_at, updated_at, version)
SELECT nodes.subscription_id, COALESCE(made.actor, 'host'), nodes.chain_profile_id, nodes.node_type,
    COALESCE(CAST(nodes.placement AS json) ->> 'provider', ''),
    COALESCE(CAST(nodes.placement AS json) ->> 'region', ''),
    COALESCE(CAST(nodes.placement AS json) ->> 'instance_type', ''),
    nodes.inputs, NULL,
    CASE WHEN nodes.state IN ('terminated', 'failed') THEN 'expired' ELSE 'active' END, NULL, NULL,
    CASE WHEN nodes.state IN ('terminated', 'failed') THEN nodes.updated_at ELSE nodes.created_at END,
    nodes.created_at, nodes.updated_at, 1
FROM nodes
LEFT JOIN (SELECT target, min(actor) AS actor FROM audit_log WHERE action = 'create_node' GROUP BY target) AS made
    ON made.target = 'node/' || nodes.id;
