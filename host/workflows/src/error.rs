//! The errors of activities and workflows, and the failure that a workflow ends with.
//!
//! They cross an engine as JSON text, so none has a source.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::exchange::ExchangeError;

/// Why an attempt of an activity failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityError {
    /// Stable word for programs, such as `machine_full`.
    pub code: String,
    /// What went wrong and what to do next, for people.
    pub message: String,
    /// Whether a retry may help.
    pub retryable: bool,
    /// The last lines that the failed work printed; empty when there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

impl ActivityError {
    /// An error that a retry may fix.
    pub fn retryable(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            retryable: true,
            output: String::new(),
        }
    }

    /// An error that no retry fixes.
    pub fn permanent(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            retryable: false,
            output: String::new(),
        }
    }

    /// The same error with the output of the failed work.
    #[must_use]
    pub fn with_output(self, output: impl Into<String>) -> Self {
        Self {
            output: output.into(),
            ..self
        }
    }
}

impl fmt::Display for ActivityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for ActivityError {}

impl From<ExchangeError> for ActivityError {
    fn from(error: ExchangeError) -> Self {
        Self::permanent("exchange", error.to_string())
    }
}

/// Why a call of a [`crate::Flow`] returned no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// An activity failed after all attempts.
    #[error("`{activity}` failed: {error}")]
    Activity {
        /// The activity's name.
        activity: String,
        /// The error of its last attempt.
        error: ActivityError,
    },
    /// A child workflow failed.
    #[error("the workflow `{id}` failed: {failure}")]
    Child {
        /// The child's id.
        id: String,
        /// Its failure.
        failure: Box<Failure>,
    },
    /// The workflow was cancelled.
    #[error("cancelled: {reason}")]
    Cancelled {
        /// The reason given with the cancel.
        reason: String,
    },
    /// A wait exceeded its limit.
    #[error("timed out after {} waiting for {what}", host_domain::time::format_duration(*.limit))]
    TimedOut {
        /// What the workflow waited for.
        what: String,
        /// The limit.
        limit: std::time::Duration,
    },
    /// A value could not be exchanged.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

impl FlowError {
    /// The workflow's failure when this error ended `step`.
    pub fn at(&self, step: &str) -> Failure {
        let (code, output) = match self {
            Self::Activity { error, .. } => (error.code.as_str(), error.output.as_str()),
            Self::Child { failure, .. } => (failure.code.as_str(), failure.output.as_str()),
            Self::Cancelled { .. } => ("cancelled", ""),
            Self::TimedOut { .. } => ("timed_out", ""),
            Self::Exchange(_) => ("exchange", ""),
        };
        let message = match self {
            // The message stands beside the step, so it need not name the activity.
            Self::Activity { error, .. } => error.message.clone(),
            other => other.to_string(),
        };
        Failure {
            code: code.to_owned(),
            step: step.to_owned(),
            message,
            output: output.to_owned(),
            leftovers: Vec::new(),
        }
    }
}

/// A workflow's failure, as its result and its operation show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable word for programs; `cancelled` after a cancel.
    pub code: String,
    /// The step that failed.
    pub step: String,
    /// What went wrong and what to do next.
    pub message: String,
    /// The last lines that the failed step printed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// What could not be undone, so that a person must act.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<Leftover>,
}

impl Failure {
    /// A failure of the engine itself, such as an input of another version.
    pub fn engine(message: impl Into<String>) -> Self {
        Self {
            code: "engine".to_owned(),
            step: String::new(),
            message: message.into(),
            output: String::new(),
            leftovers: Vec::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.step.is_empty() {
            write!(f, "{} ({})", self.message, self.code)
        } else {
            write!(f, "step `{}`: {} ({})", self.step, self.message, self.code)
        }
    }
}

impl std::error::Error for Failure {}

/// An undo that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// The undo's name, such as `release_machine`.
    pub undo: String,
    /// Why it failed.
    pub message: String,
}
