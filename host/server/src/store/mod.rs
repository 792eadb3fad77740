//! The store: all SQL of the host, one file per noun, for SQLite and PostgreSQL (design: style.md, SQL for two databases).
//!
//! It knows rows and versions, no rules. What reads is a method of [`Reader`], to which [`Db`] and [`Tx`] both
//! dereference; what writes is a method of [`Tx`]. Every list is bounded by its caller and read by keyset.

pub mod engine_file;
