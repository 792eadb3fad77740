//! Collectors: measure one node, beside it.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::about::{self, Description, PluginKind};
use crate::bindings::collector::exports::bellwether;
use crate::{BadField, Capability, Emits, Failure, Identity, Observation, config};

pub use bellwether::collector::collect::Node;

/// Measures one node. Every call runs in a fresh instance: what must outlive it goes through [`kv`](crate::kv).
pub trait Collector {
    /// The collector's `with` block: derive `serde::Deserialize` and `schemars::JsonSchema`. The host checks it against that schema, so say
    /// there what can be said there: defaults, ranges, `#[serde(deny_unknown_fields)]`.
    type Config: DeserializeOwned + JsonSchema;
    /// Capabilities that it can't work without.
    const WANTS: &[Capability] = &[];
    /// What it emits.
    const EMITS: &[Emits];

    /// Checks what the schema can't say, such as two fields that must agree.
    fn check(_config: &Self::Config) -> Result<(), BadField> {
        Ok(())
    }

    /// Measures once. A source that does not answer is [`Failure::Upstream`]; a value that the source does not have is left out.
    fn collect(node: &Node, config: &Self::Config) -> Result<Vec<Observation>, Failure>;
}

/// What [`register!`](crate::register) exports for a collector.
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
