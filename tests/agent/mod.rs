//! The agent against a scripted gateway and real processes.

mod bed;
mod crash;
mod debian;
mod keys;
mod leases;
mod packages;
mod processes;
mod python;
mod recipes;
mod refusals;
mod session;
mod swap;
