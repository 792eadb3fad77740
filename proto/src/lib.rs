//! The agent protocol as generated from `agent/v1/agent.proto`.
//!
//! Generated code only: what the messages mean in the domain is written in each side's `convert.rs`.

/// Version 1 of the protocol.
#[expect(clippy::pedantic, clippy::allow_attributes, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("bellwether.agent.v1");
}
