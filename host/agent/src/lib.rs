//! The agent runs on each machine: it enrols with the host, executes commands, runs the processes of nodes and collects
//! observations.
//!
//! Entry points: [`run`] is the agent's life from start to shutdown; [`AgentConfig`] is what it needs. A program that
//! runs an agent calls [`answer_guard`] first. Inside, `executor` runs commands, `steps` holds what commands can do,
//! `adapters` runs processes, and `session` talks to the host.
//!
//! Invariant: the agent knows no chain and decides nothing about nodes. It does what the host says exactly once, undoes
//! what it can't finish, and keeps processes running while the host is unavailable. It writes everything that it must
//! not forget to its state folder before it acts; `layout` lists the files.

mod adapters;
mod agent;
mod collect;
mod config;
mod durable;
mod executor;
mod facts;
mod identity;
mod journal;
mod json_message;
mod kv;
mod layout;
mod lease;
mod node_root;
mod outbox;
mod process_group;
mod session;
mod settings;
mod steps;
mod tasks;
mod time;

pub use adapters::answer_guard;
pub use agent::run;
pub use config::{AgentConfig, AgentError};
pub use settings::{AgentSettings, SettingsError};
