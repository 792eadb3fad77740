//! What several areas of tests stand on.

pub(crate) mod database;
pub(crate) mod fake_agent;
pub(crate) mod fake_clock;
pub(crate) mod postgres;
