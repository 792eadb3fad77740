//! The store: all SQL of the host, one file per noun, for SQLite and PostgreSQL.
//!
//! Entry points: [`Db`] and [`Tx`]. Reads are methods of [`Reader`], to which both dereference; writes are methods of
//! [`Tx`].
//!
//! Invariant: the store knows rows and versions, no rules. Its callers bound every list, and lists use keyset
//! pagination.

mod config;
mod databases;
mod db;
mod error;
pub mod metrics;
mod migrate;
mod sql;
mod tables;
mod transfer;

mod agents;
mod api_keys;
mod audit_log;
mod bus_outbox;
mod commands;
mod enrolment_tokens;
mod event_log;
mod health;
mod heartbeats;
mod idempotency_keys;
mod incidents;
mod leader_epochs;
mod leader_lock;
mod machine_claims;
mod machines;
mod meta;
mod node_events;
mod node_keys;
mod node_migrations;
mod nodes;
mod notifications;
mod observations;
mod operations;
mod outbox;
mod plugin_kv;
mod plugin_revisions;
mod pools;
mod retry;
mod subscriptions;

pub use host_domain::node_event::NodeEventEntry;

pub use audit_log::{AuditEntry, AuditFilter};
pub use bus_outbox::BusEvent;
pub use config::{DatabaseConfig, DatabaseUrl};
pub use databases::{Databases, Role};
pub use db::{Changes, Db, Reader, Tx};
pub use error::StoreError;
pub use event_log::{LogEntry, NewLogEntry};
pub use health::{CountedMisses, FoundHealth, HealthRow, JudgedNode};
pub use heartbeats::Heartbeat;
pub use idempotency_keys::{IdempotentAnswer, UNANSWERED};
pub use incidents::{IncidentFilter, IncidentHistoryEntry};
pub use leader_epochs::Fence;
pub use leader_lock::Contender;
pub use migrate::PendingMigration;
pub use nodes::{NewCondition, NodeFilter};
pub use operations::OperationFilter;
pub use outbox::{ClaimedEvent, DeadLetter, OutboxLag};
pub use plugin_kv::{PluginKvScope, PluginKvUse};
pub use pools::DbOptions;
pub use retry::{Undone, retried};
pub use subscriptions::{SubscriptionFilter, SubscriptionPayment};
pub use transfer::{TableSum, TransferError};
