//! What every engine says about what it is given: names that it can't take, workflows that lack something, and its own
//! trouble.

use std::collections::HashSet;

use host_workflows::{Activities, EngineError, Workflows};

/// The longest id or mailbox.
const NAME_CHARS_MAX: usize = 200;

/// Refuses an id or a mailbox that not every engine can take, so that a workflow may move from one to the other.
pub(crate) fn check_name(id: &str) -> Result<(), EngineError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.');
    // Duroxide names children by `sub::`.
    if id.is_empty() || id.len() > NAME_CHARS_MAX || id.contains("::") || !id.chars().all(is_plain)
    {
        return Err(EngineError::BadName { id: id.to_owned() });
    }
    Ok(())
}

/// The engine's own trouble.
pub(crate) fn unavailable(operation: &'static str, error: &dyn std::fmt::Display) -> EngineError {
    EngineError::Unavailable {
        operation,
        message: error.to_string(),
    }
}

/// A workflow and an activity that it calls and that nobody implements.
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
