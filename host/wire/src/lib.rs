//! The JSON of the HTTP API, defined once: the host writes these types and its clients read them.
//!
//! One file per noun holds the noun's requests, queries and answers. [`problem`] has the codes of problems, [`events`] the
//! event stream, [`page`] the lists. [`state_folder`] names the files by which a client finds a host.
//!
//! **Entry points:** the types, which this file re-exports; conversions from domain types are `From` implementations beside
//! them. Conversions from what only the host knows are in the host's `api/`.
//!
//! **Invariant:** every type reads what it writes, and nothing here depends on a web framework, a database or a runtime.

pub mod agents;
pub mod api_keys;
pub mod audit;
pub mod chains;
pub mod dead_letters;
pub mod events;
pub mod incidents;
pub mod keys;
pub mod me;
pub mod nodes;
pub mod operations;
pub mod page;
pub mod plugins;
pub mod problem;
pub mod state_folder;
pub mod subscriptions;
pub mod system;
pub mod values;
pub mod words;
pub mod workflows;

pub use agents::*;
pub use api_keys::*;
pub use audit::*;
pub use chains::*;
pub use dead_letters::*;
pub use events::*;
pub use incidents::*;
pub use keys::*;
pub use me::*;
pub use nodes::*;
pub use operations::*;
pub use page::*;
pub use plugins::*;
pub use problem::*;
pub use subscriptions::*;
pub use system::*;
pub use values::{Measured, Reason, Value};
pub use words::*;
pub use workflows::*;

/// Header with the client's key for a write, which the host executes once per key.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
