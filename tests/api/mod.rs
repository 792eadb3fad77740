//! The HTTP API and the command line against a real host over TCP.

mod api_keys;
mod audit;
mod auth;
mod bad_requests;
mod bed;
mod cli;
mod client_page;
mod console;
mod dead_letters;
mod document;
mod events;
mod last_good;
mod nodes;
mod once;
mod subscriptions;
