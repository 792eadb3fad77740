//! Observations and their values.

pub use crate::bindings::shared::bellwether::types::observations::{
    Observation, ObservationKind, Scalar, Tag,
};

impl Observation {
    /// An observation without tags.
    pub fn new(name: impl Into<String>, value: impl Into<Scalar>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            tags: Vec::new(),
        }
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push(Tag {
            key: key.into(),
            value: value.into(),
        });
        self
    }
}

impl Scalar {
    /// The value as a number; flags count as 0 and 1, text and absence have none.
    #[expect(clippy::cast_precision_loss, reason = "heights stay far below 2^53")]
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Real(value) => Some(*value),
            Self::Flag(value) => Some(f64::from(u8::from(*value))),
            Self::Absent | Self::Text(_) => None,
        }
    }

    /// The value as a flag.
    pub fn flag(&self) -> Option<bool> {
        match self {
            Self::Flag(value) => Some(*value),
            Self::Absent | Self::Int(_) | Self::Real(_) | Self::Text(_) => None,
        }
    }

    /// The value as text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            Self::Absent | Self::Flag(_) | Self::Int(_) | Self::Real(_) => None,
        }
    }
}

impl From<bool> for Scalar {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<i64> for Scalar {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Scalar {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u64> for Scalar {
    /// Values above `i64::MAX` become `i64::MAX`.
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Scalar {
    /// NaN becomes absent.
    fn from(value: f64) -> Self {
        if value.is_finite() {
            Self::Real(value)
        } else {
            Self::Absent
        }
    }
}

impl From<&str> for Scalar {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Scalar {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl<T: Into<Scalar>> From<Option<T>> for Scalar {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Into::into)
    }
}
