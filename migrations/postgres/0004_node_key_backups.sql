-- Where a copy of a sealed key, as it is wrapped now, was read back from.
ALTER TABLE node_keys ADD COLUMN backup TEXT;
