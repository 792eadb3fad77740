-- Transitions on their way to the event bus, and for a while those that it has taken: an answer of the bus may come before
-- its disk has the event.
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
