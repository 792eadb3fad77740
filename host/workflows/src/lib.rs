//! Durable workflows, written once against a small port that every engine implements.
//!
//! Invariant: nothing here reads a clock, draws a random number, or uses the network or a database. A workflow learns
//! everything through activities, so an engine can replay it after kill -9.
//!
//! # Entry points
//! - **Inside a workflow**: [`Flow`] runs activities, children and timers; [`combine`] has `join` and `select`.
//! - **Activities** are unit structs ([`Activity`]), so that workflow and implementation share their types.
//! - **Outside**: [`Engine`] is what an engine implements; [`start`] is its typed form; [`Workflows::all`] is the registry.
//!
//! # What the port guarantees
//! - Inputs, outputs and messages are JSON text of at most [`exchange::TEXT_BYTES_MAX`] bytes.
//! - A message is only a wake-up; an activity then checks the condition ([`wait`]). A lost or early message breaks nothing.
//! - [`Engine::cancel`] stops running activities and waits for them. Every later call returns [`FlowError::Cancelled`],
//!   and undos run under [`Flow::shielded`].

pub mod combine;
pub mod exchange;
pub mod wait;

mod activity;
mod command;
mod engine;
mod error;
mod flow;
mod retry;
mod undo;
mod workflow;

pub mod migrate_activities;
pub mod migrate_node;
pub mod node_activities;
pub mod provision_node;
pub mod terminate_node;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use activity::{Activities, Activity, ActivityContext, Handler, Pulse};
pub use engine::{
    Engine, EngineError, HistoryEntry, Outcome, Page, PageRequest, Started, Status, StatusKind,
    start,
};
pub use error::{ActivityError, Failure, FlowError, Leftover};
pub use flow::{ActivityCall, Control, Flow, TryFailed, Watch};
pub use retry::Retry;
pub use undo::Undos;
pub use workflow::{Runner, Workflow, Workflows};
