//! The gateway over real TCP and mutual TLS, with scripted agents.

mod bed;
mod commands;
mod enrolment;
mod keys;
mod reports;
mod session;
