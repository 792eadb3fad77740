//! Workflows on real engines: one suite over `dyn Engine`, and what is special about each engine.

mod crash;
mod duroxide;
mod fixtures;
mod suite;
mod temporal;
