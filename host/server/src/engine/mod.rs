//! The engines that run workflows, each an adapter of the port in `host-workflows`.
//!
//! One machine runs duroxide inside this process on a file of its own. Nothing else in the host knows which engine it
//! is: all others hold an `Arc<dyn Engine>`.

pub mod duroxide;
