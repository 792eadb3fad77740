//! The gateway: the gRPC services that agents call, over mutual TLS with the host's own certificate authority.
//!
//! Purpose: it brings beats, observations and results from agents into the database, and commands and assignments from
//! the host to agents. What they mean for a node is decided by the host.
//!
//! Entry points: [`Gateway::start`] serves agents, [`Sessions`] wakes and ends their sessions, [`encode_command`] makes
//! the payload of a command, [`CertificateAuthority`] signs certificates. The host implements [`GatewayStore`],
//! [`GatewayEvents`] and [`AssignmentSource`].
//!
//! Invariant: an agent speaks only for nodes of its own machine, and the gateway acknowledges nothing before it is stored.

mod assignments;
mod beats;
mod ca;
mod commands;
mod components;
mod config;
mod convert;
mod delivery;
mod enrolment;
mod events;
mod inbound;
mod ingest;
mod keys;
pub mod metrics;
mod parts;
mod peer;
mod registry;
mod revocations;
mod scope;
mod server;
mod service;
mod session;
mod shared;
mod steps;
mod store;
#[cfg(test)]
mod test_store;

pub use assignments::{AgentAssignments, AssignmentSource, CollectorAssignment, NodeAssignment};
pub use ca::{CaError, CertificateAuthority, IssuedCertificate, ServerIdentity};
pub use commands::{CommandTooLarge, Order, encode_command};
pub use config::{GatewayConfig, GatewayOptions};
pub use events::{
    CollectorFailure, CommandProgress, ComponentReport, GatewayEvents, ObservationUpdate,
};
pub use parts::{ComponentLookup, GatewayParts, KeyImportCheck, KeyOpenError, KeyOpener};
pub use registry::Sessions;
pub use server::{Gateway, GatewayError};
pub use store::{
    AgentStore, CommandStore, EnrolOutcome, GatewayStore, GatewayStoreError, NodeStore, StoreResult,
};
