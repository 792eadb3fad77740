//! Durable workflows, written once against a small port that every engine implements (design: workflows.md).
//!
//! Nothing here reads a clock, draws a random number, or touches the network or a database; a workflow learns
//! everything through activities, which is what lets an engine replay it after kill -9.
//!
//! # How the parts meet
//! - **Inside a workflow**: [`Flow`] has the verbs `activity`, `child`, `timer`, `signal`, `status`, `again`,
//!   and [`combine`] has `join` and the two-way `select`. An engine provides them by implementing [`Control`].
//! - **Activities** are declared once ([`Activity`]: name, input, output, retry) as unit structs, so that workflow
//!   and implementation share their types. The shell registers what they do:
//!   `activities.on(ReserveMachine, move |ctx: ActivityContext, input| async move { … })`.
//!   [`ActivityContext`] has `key()` (workflow id + step, for idempotency), `attempt()`, `heartbeat(&p)`, `last::<P>()`,
//!   `is_cancelled()`, `cancelled()`.
//! - **Outside**: [`Engine`] is object safe and speaks JSON text; [`start`] is its typed form.
//! - **Workflows** implement [`Workflow`]; [`Workflows::all`] is the registry that an engine is started with.
//!
//! # Rules that the port keeps
//! - Inputs, outputs and messages are JSON text of at most [`exchange::TEXT_BYTES_MAX`] bytes.
//! - A message of a mailbox is a wake-up; the truth is then asked from an activity ([`wait`]). A lost or an early
//!   message therefore delays nothing for long and breaks nothing.
//! - [`Engine::cancel`] asks: a running activity is told and waited for, every later verb answers
//!   [`FlowError::Cancelled`], and undoing goes on under [`Flow::shielded`].

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
