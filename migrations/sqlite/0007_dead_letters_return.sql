-- What was put aside goes back to its place among its node's, and is known as what is late.
ALTER TABLE dead_letters ADD COLUMN seq INTEGER;
ALTER TABLE health_event_outbox ADD COLUMN requeued_at INTEGER;
