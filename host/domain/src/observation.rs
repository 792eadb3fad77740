//! Observations: typed facts about a node at a time, and the columns that policies read.

use serde::{Deserialize, Serialize};

use crate::time::Millis;

/// One typed value. `Absent` means that the source had no value, which differs from zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scalar {
    /// No value.
    #[default]
    Absent,
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Real(f64),
    /// Text.
    Text(String),
}

impl Scalar {
    /// The value as a number, for aggregates: flags count as 0 and 1; text and absence have none.
    #[expect(clippy::cast_precision_loss, reason = "heights stay far below 2^53")]
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Real(value) => Some(*value),
            Self::Flag(value) => Some(f64::from(u8::from(*value))),
            Self::Absent | Self::Text(_) => None,
        }
    }
}

/// How values of one name change over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObservationKind {
    /// Goes up and down.
    Gauge,
    /// Only goes up, apart from resets.
    Counter,
    /// A label or a flag.
    State,
}

/// A measured fact about a node; the name is dotted, such as `node.height`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Dotted name from the chain's catalogue.
    pub name: String,
    /// What was measured.
    pub value: Scalar,
    /// When it was measured, by the agent's clock.
    pub at: Millis,
}
