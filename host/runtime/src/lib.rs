//! The plugin host: loads WebAssembly components, calls them under limits, and gives them nothing that is not granted.
//!
//! This is the only crate that names wasmtime, and its public face has none of wasmtime's types: the server and the agent see
//! [`PluginHost`], [`Plugin`] and two error enums. A component is compiled once per digest, linked once, and every call runs in a
//! fresh store that is dropped afterwards, so nothing is shared between calls, nodes or tenants except what a capability keeps.

mod bindings;
mod cache;
mod call;
mod capability;
mod collector;
mod compile;
mod config_schema;
mod description;
mod engine;
mod error;
mod host;
mod inspect;
mod limits;
mod load;
pub mod metrics;
mod notifier;
mod plugin;
mod policy;
mod state;
mod stats;

pub use capability::facts::{FactSource, MachineFacts};
pub use capability::kv::{KvError, KvScope, KvStore, KvUse, MemoryKv};
pub use capability::secrets::{NoSecrets, SecretSource};
pub use collector::{CollectNode, NodeContext};
pub use compile::{COMPILE_COMMAND, CompileMode, compile_main};
pub use error::{CallError, Failure, PluginError, RuntimeError, TimeKind};
pub use host::{PluginHost, RuntimeConfig, Services};
pub use host_domain::notification::NotificationStatus;
pub use inspect::{Inspection, inspect};
pub use load::{Digest, LoadSpec};
pub use notifier::{
    Callback, CallbackAction, CallbackKind, IncidentView, LabelView, Notification, Receipt,
};
pub use plugin::Plugin;
pub use policy::{Health, IncidentNote, Sheet, Sync, Verdict};
pub use stats::PluginStats;
