//! The workflow engines, each an adapter of the port in `host-workflows`.
//!
//! Entry points: [`duroxide::DuroxideEngine`] runs inside one host on its own file; `temporal::TemporalEngine`
//! (feature `temporal`) runs on a Temporal server that all hosts of a database share. Both implement `Engine` of
//! `host-workflows`.
//!
//! Invariant: nothing outside this crate names duroxide or Temporal's client; the rest of the host holds an `Arc<dyn
//! Engine>`.

mod config;
pub mod duroxide;
mod given;
pub mod metrics;
#[cfg(feature = "temporal")]
pub mod temporal;
mod tries;

pub use config::{EngineKind, TemporalConfig, WorkflowsConfig};
