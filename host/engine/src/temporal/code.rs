//! What a worker runs: the registered workflows, and the options for their commands.

use std::time::Duration;

use host_workflows::Workflows;

/// The code and options that all runs of a worker share.
pub(super) struct Code {
    /// Every version of every workflow.
    pub(super) workflows: Workflows,
    /// The task queue of children and activities: the worker's own.
    pub(super) task_queue: String,
    /// The namespace of children.
    pub(super) namespace: String,
    /// How long a worker may send no heartbeat before Temporal assigns the attempt to another.
    pub(super) heartbeat_limit: Duration,
    /// How long a worker may take for one turn of a workflow before Temporal assigns it to another.
    pub(super) turn_limit: Duration,
}
