//! Values that many answers share: reasons, measured values and times.

use host_domain::observation::{Observation, Scalar};
use host_domain::time::Millis;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// Stable code for programs, such as `height_stalled`.
    pub code: String,
    /// For people.
    pub message: String,
}

impl From<host_domain::node::Reason> for Reason {
    fn from(reason: host_domain::node::Reason) -> Self {
        Self {
            code: reason.code,
            message: reason.message,
        }
    }
}

/// One measured value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Value {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Real(f64),
    /// Text.
    Text(String),
}

/// The value in JSON; `null` when the source had none.
pub fn value(scalar: Scalar) -> Option<Value> {
    match scalar {
        Scalar::Absent => None,
        Scalar::Flag(value) => Some(Value::Flag(value)),
        Scalar::Int(value) => Some(Value::Int(value)),
        Scalar::Real(value) => Some(Value::Real(value)),
        Scalar::Text(value) => Some(Value::Text(value)),
    }
}

/// What was measured, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Measured {
    /// The value; `null` when the source had none.
    pub value: Option<Value>,
    /// When it was measured.
    pub at: Timestamp,
}

impl From<Observation> for Measured {
    fn from(observation: Observation) -> Self {
        Self {
            value: value(observation.value),
            at: time(observation.at),
        }
    }
}

/// A point in time as RFC 3339 in UTC; what lies beyond year 9999 is shown as the end of it.
pub fn time(at: Millis) -> Timestamp {
    let end = if at.0 < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::from_millisecond(at.0).unwrap_or(end)
}

/// The domain's form of a point in time.
pub fn millis(at: Timestamp) -> Millis {
    Millis(at.as_millisecond())
}
