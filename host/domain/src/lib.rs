//! The pure centre: objects, state machines and rules (design: domain.md).
//!
//! Nothing here waits, reads, writes or asks for the time; every decision is a function of its arguments.

pub mod ids;
pub mod setting;
mod text_enum;
pub mod time;

pub mod heartbeat;
pub mod node;
pub mod node_event;
pub mod subscription;

pub mod agent;
pub mod api_key;
pub mod claim;
pub mod command;
pub mod key;
pub mod operation;

pub mod metric;
pub mod observation;

pub mod health;

pub mod migration;
pub mod migration_target;

pub mod event;
pub mod incident;
pub mod notification;

pub mod breaker;
pub mod plugin;
pub mod revision;

pub mod config;
