//! What several areas of tests stand on.

pub(crate) mod database;
pub(crate) mod postgres;
