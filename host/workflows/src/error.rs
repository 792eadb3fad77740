//! What can go wrong in a workflow: an activity's error, the workflow's view of it, and the failure that it ends with.
//!
//! All of them are data that crosses an engine as JSON text, so none carries a source.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::exchange::ExchangeError;

/// Why a try of an activity failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityError {
    /// Stable word for programs, such as `machine_full`.
    pub code: String,
    /// What went wrong and what to do next, for people.
    pub message: String,
    /// Whether another try may help.
    pub retryable: bool,
    /// The last lines that the failed work printed; empty when there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

impl ActivityError {
    /// An error that another try may overcome.
    pub fn retryable(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            retryable: true,
            output: String::new(),
        }
    }

    /// An error that stays.
    pub fn permanent(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            retryable: false,
            output: String::new(),
        }
    }

    /// The same error with what the failed work printed.
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

/// Why a verb of a [`crate::Flow`] did not answer with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// An activity failed for good, its tries included.
    #[error("`{activity}` failed: {error}")]
    Activity {
        /// The activity's name.
        activity: String,
        /// What its last try said.
        error: ActivityError,
    },
    /// A child workflow failed.
    #[error("the workflow `{id}` failed: {failure}")]
    Child {
        /// The child's id.
        id: String,
        /// What it ended with.
        failure: Box<Failure>,
    },
    /// Somebody asked the workflow to stop.
    #[error("cancelled: {reason}")]
    Cancelled {
        /// Why, in the words of who asked.
        reason: String,
    },
    /// Something did not come in time.
    #[error("{what} did not come within {}", host_domain::time::format_duration(*.limit))]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        limit: std::time::Duration,
    },
    /// A value could not be exchanged.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

impl FlowError {
    /// The workflow's failure, when this error ended `step`.
    pub fn at(&self, step: &str) -> Failure {
        let (code, output) = match self {
            Self::Activity { error, .. } => (error.code.as_str(), error.output.as_str()),
            Self::Child { failure, .. } => (failure.code.as_str(), failure.output.as_str()),
            Self::Cancelled { .. } => ("cancelled", ""),
            Self::TimedOut { .. } => ("timed_out", ""),
            Self::Exchange(_) => ("exchange", ""),
        };
        let message = match self {
            // The step is named beside the message, so the activity need not be.
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

/// How a workflow failed, as its result and its operation show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable word for programs; `cancelled` when somebody asked for it.
    pub code: String,
    /// The step that failed.
    pub step: String,
    /// What went wrong and what to do next.
    pub message: String,
    /// The last lines that the failed step printed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// What could not be undone: a person must look.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<Leftover>,
}

impl Failure {
    /// A failure of the machinery itself, such as an input of another version.
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
