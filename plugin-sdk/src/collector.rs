//! Collectors, which measure one node.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::about::{self, Description, PluginKind};
use crate::bindings::collector::exports::bellwether;
use crate::{BadField, Capability, Emits, Failure, Identity, Observation, config};

pub use bellwether::collector::collect::Node;

/// Measures one node. Every call runs in a new instance; use [`kv`](crate::kv) for state that survives a call.
pub trait Collector {
    /// The collector's `with` block: derive `serde::Deserialize` and `schemars::JsonSchema`. The host validates it by
    /// that schema, so declare defaults, ranges and `#[serde(deny_unknown_fields)]` there.
    type Config: DeserializeOwned + JsonSchema;
    /// Capabilities that it requires.
    const WANTS: &[Capability] = &[];
    /// The observations that it emits.
    const EMITS: &[Emits];

    /// Validates what the schema can't express, such as two fields that must agree.
    fn check(_config: &Self::Config) -> Result<(), BadField> {
        Ok(())
    }

    /// Measures once. Return [`Failure::Upstream`] if the source does not answer, and omit values that the source
    /// does not have.
    fn collect(node: &Node, config: &Self::Config) -> Result<Vec<Observation>, Failure>;
}

/// The exports of a collector for [`register!`](crate::register).
#[derive(Debug)]
pub struct CollectorComponent<T>(PhantomData<T>);

impl<T: Collector + Identity> about::Guest for CollectorComponent<T> {
    fn describe() -> Description {
        Description {
            emits: T::EMITS.iter().map(Into::into).collect(),
            ..about::description(
                T::PACKAGE,
                PluginKind::Collector,
                config::schema::<T::Config>(),
                T::WANTS,
            )
        }
    }
}

impl<T: Collector> bellwether::collector::collect::Guest for CollectorComponent<T> {
    fn collect(node: Node, config: String) -> Result<Vec<Observation>, Failure> {
        T::collect(&node, &config::read(&config, T::check)?)
    }
}
