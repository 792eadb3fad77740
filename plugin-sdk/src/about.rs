//! A plugin's description, built from its crate and its trait.

use crate::ObservationKind;

pub(crate) use crate::bindings::about::exports::bellwether::types::about::{
    Description, Guest, ObservationSpec, PluginKind,
};

/// Every capability in a plugin's `WANTS` must be granted; otherwise the host rejects the plugin.
pub use crate::bindings::about::exports::bellwether::types::about::Capability;

/// An observation that a collector declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emits {
    /// Dotted name from the chain's catalogue, such as `node.height`.
    pub name: &'static str,
    /// Unit; empty for flags and labels.
    pub unit: &'static str,
    /// How values change over time.
    pub kind: ObservationKind,
    /// One sentence for people.
    pub summary: &'static str,
}

impl Emits {
    /// A value that goes up and down.
    pub const fn gauge(name: &'static str, unit: &'static str, summary: &'static str) -> Self {
        Self {
            name,
            unit,
            kind: ObservationKind::Gauge,
            summary,
        }
    }

    /// A value that only goes up, apart from resets.
    pub const fn counter(name: &'static str, unit: &'static str, summary: &'static str) -> Self {
        Self {
            name,
            unit,
            kind: ObservationKind::Counter,
            summary,
        }
    }

    /// A label or a flag.
    pub const fn state(name: &'static str, summary: &'static str) -> Self {
        Self {
            name,
            unit: "",
            kind: ObservationKind::State,
            summary,
        }
    }
}

/// Name, version and summary of the plugin's crate.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// The crate's name is the plugin's id.
    pub name: &'static str,
    /// The crate's version.
    pub version: &'static str,
    /// The crate's description.
    pub summary: &'static str,
}

/// Ties a plugin to the crate that registers it; [`register!`](crate::register) implements it.
pub trait Identity {
    /// The crate.
    const PACKAGE: Package;
}

/// Builds the description.
pub(crate) fn description(
    package: Package,
    kind: PluginKind,
    config_schema: String,
    wants: &[Capability],
) -> Description {
    Description {
        name: package.name.into(),
        version: package.version.into(),
        kind,
        summary: package.summary.into(),
        config_schema,
        wants: wants.to_vec(),
        emits: Vec::new(),
        reads: Vec::new(),
    }
}

impl From<&Emits> for ObservationSpec {
    fn from(emits: &Emits) -> Self {
        Self {
            name: emits.name.into(),
            unit: emits.unit.into(),
            kind: emits.kind,
            summary: emits.summary.into(),
        }
    }
}

/// Marks the plugin as used in a native build, which exports nothing.
#[doc(hidden)]
pub fn exported<T: Guest>() {}
