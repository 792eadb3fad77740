//! The agent beside the nodes: it enrols, executes commands, supervises processes and collects observations.
//!
//! It holds no rule about chains and decides nothing about nodes: the host says what, the agent does it once,
//! undoes what it can't finish, and keeps what runs running when the host is away. Everything that it must not
//! forget is in its state folder before it acts; `layout.rs` is the map of that folder.

mod adapters;
mod agent;
mod collect;
mod config;
mod durable;
mod executor;
mod facts;
mod guard;
mod identity;
mod journal;
mod layout;
mod lease;
mod node_root;
mod outbox;
mod session;
mod steps;
mod tasks;
mod time;

pub use agent::run;
pub use config::{AgentConfig, AgentError};
pub use guard::answer_guard;
