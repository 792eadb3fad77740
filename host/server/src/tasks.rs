//! The tasks that live as long as the host.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns tasks that a shutdown waits for. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    /// Cancelled when the host stops; every task ends then.
    pub(crate) shutdown: CancellationToken,
    /// Knows every task, also those that other parts of the host spawn.
    pub(crate) tracker: TaskTracker,
}

impl Tasks {
    /// Spawns a task. It has to end when `shutdown` is cancelled.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that spawns"
    )]
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(self.tracker.track_future(task)));
    }

    /// Stops every task.
    pub(crate) fn begin_shutdown(&self) {
        self.shutdown.cancel();
        self.tracker.close();
    }

    /// Waits until every task has ended.
    pub(crate) async fn ended(&self) {
        self.tracker.wait().await;
    }
}
