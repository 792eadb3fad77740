//! The pure domain: objects, state machines and rules.
//!
//! Entry points: one module per noun, such as [`node`], [`incident`] and [`subscription`]; [`config`] loads chain
//! configurations.
//!
//! Invariant: nothing here waits, performs I/O or reads a clock; every decision is a function of its arguments.

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
