//! Servers, programs and checks that several areas of tests use.

pub(crate) mod bao;
pub(crate) mod canary;
pub(crate) mod compiled;
pub(crate) mod database;
pub(crate) mod dev;
pub(crate) mod echo;
pub(crate) mod exhaustive;
pub(crate) mod fake_agent;
pub(crate) mod fake_clock;
pub(crate) mod files;
pub(crate) mod gateway;
pub(crate) mod nats;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod shared;
pub(crate) mod signer;
pub(crate) mod sshd;
pub(crate) mod temporal;
pub(crate) mod terraform;
pub(crate) mod tls;
pub(crate) mod wait;
pub(crate) mod webhooks;
pub(crate) mod weed;
