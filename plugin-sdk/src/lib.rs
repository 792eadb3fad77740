//! The SDK for plugins: one trait per kind, [`register!`], and typed access to the host.
//!
//! Entry points: [`Collector`], [`HealthPolicy`], [`Notifier`] and [`register!`].
//!
//! Invariant: the bindings that `wit-bindgen` generates from `/wit` stay inside this crate. A complete collector:
//!
//! ```
//! use bellwether_plugin_sdk::{Capability, Collector, Emits, Failure, Node, Observation, http, register};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     /// The address of the node's API: `node:` and the name of one of its ports.
//!     url: String,
//! }
//!
//! #[derive(serde::Deserialize)]
//! struct Status {
//!     height: u64,
//! }
//!
//! struct Height;
//!
//! impl Collector for Height {
//!     type Config = Config;
//!     const WANTS: &[Capability] = &[Capability::Http];
//!     const EMITS: &[Emits] = &[Emits::counter("node.height", "blocks", "Height of the newest block.")];
//!
//!     fn collect(_node: &Node, config: &Config) -> Result<Vec<Observation>, Failure> {
//!         let status: Status = http::get(&config.url).send()?.ok()?.json()?;
//!         Ok(vec![Observation::new("node.height", status.height)])
//!     }
//! }
//!
//! register!(collector: Height);
//! # fn main() {}
//! ```
//!
//! The crate's name becomes the plugin's id, its version the plugin's version, and its description the summary.

mod about;
#[doc(hidden)]
pub mod bindings;
pub mod clock;
mod collector;
mod config;
pub mod facts;
mod failure;
pub mod http;
pub mod kv;
pub mod log;
pub mod metrics;
pub mod notifier;
mod observation;
pub mod policy;
mod register;
pub mod secrets;

pub use about::{Capability, Emits, Identity, Package};
pub use collector::{Collector, Node};
pub use failure::{BadField, Failure};
pub use notifier::Notifier;
pub use observation::{Observation, ObservationKind, Scalar, Tag};
pub use policy::HealthPolicy;

#[doc(hidden)]
pub use about::exported;
#[doc(hidden)]
pub use collector::CollectorComponent;
#[doc(hidden)]
pub use notifier::NotifierComponent;
#[doc(hidden)]
pub use policy::PolicyComponent;
