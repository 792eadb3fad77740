//! An engine in memory, deterministic, with time that jumps: for tests of workflows.
