//! The engines that run workflows, each an adapter of the port in `host-workflows`.
//!
//! One machine runs duroxide inside this process on a file of its own; more machines share a Temporal. Nothing else in the
//! host knows which engine it is: all others hold an `Arc<dyn Engine>`.

pub mod duroxide;
pub mod temporal;

mod asked;
mod tries;
