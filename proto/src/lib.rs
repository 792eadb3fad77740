//! The agent protocol as generated from `agent/v1/agent.proto`.
//!
//! Generated code only: each side translates the messages in its own `convert.rs`.

/// Version 1 of the protocol.
#[expect(clippy::pedantic, clippy::allow_attributes, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("bellwether.agent.v1");

    /// Logs must not contain a secret.
    impl std::fmt::Debug for KeyMaterial {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("KeyMaterial")
        }
    }
}
