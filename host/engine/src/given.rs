//! Checks and errors that all engines share: invalid names, missing activities, and unavailability.

use std::collections::HashSet;

use host_workflows::{Activities, EngineError, Workflows};

/// The maximum length of an id or a mailbox.
const NAME_CHARS_MAX: usize = 200;

/// Rejects an id or a mailbox that not every engine accepts, so that a workflow may move from one engine to the
/// other.
pub(crate) fn check_name(id: &str) -> Result<(), EngineError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.');
    // Duroxide names children by `sub::`.
    if id.is_empty() || id.len() > NAME_CHARS_MAX || id.contains("::") || !id.chars().all(is_plain)
    {
        return Err(EngineError::BadName { id: id.to_owned() });
    }
    Ok(())
}

/// The engine is unavailable.
pub(crate) fn unavailable(operation: &'static str, error: &dyn std::fmt::Display) -> EngineError {
    EngineError::Unavailable {
        operation,
        message: error.to_string(),
    }
}

/// A workflow calls an activity that is not implemented.
pub(crate) fn missing_activity(
    workflows: &Workflows,
    activities: &Activities,
) -> Option<(&'static str, &'static str)> {
    let known: HashSet<&str> = activities.names().collect();
    workflows.iter().find_map(|workflow| {
        let mut called = workflow.activities.iter();
        let missing = called.find(|name| !known.contains(**name))?;
        Some((workflow.kind, *missing))
    })
}
