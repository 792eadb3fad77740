//! What a worker runs: the registered workflows, and the limits that what they ask Temporal carries.

use std::time::Duration;

use host_workflows::Workflows;

/// Shared by every run of a worker.
pub(super) struct Code {
    /// Every version of every workflow.
    pub(super) workflows: Workflows,
    /// Where children and activities are queued: where this worker looks.
    pub(super) task_queue: String,
    /// Where children live.
    pub(super) namespace: String,
    /// How long a worker may be silent about a try before Temporal gives it to another.
    pub(super) heartbeat_limit: Duration,
    /// How long a worker may take for one turn of a workflow before Temporal gives it to another.
    pub(super) turn_limit: Duration,
}
