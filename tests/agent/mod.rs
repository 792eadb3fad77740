//! The agent against a scripted gateway and real processes.

mod bed;
mod crash;
mod packages;
mod processes;
mod recipes;
mod refusals;
mod session;
