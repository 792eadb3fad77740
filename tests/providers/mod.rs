//! Machines from providers, end to end: the real programs against real servers and engines.

mod opentofu;
mod ssh;
mod states;
