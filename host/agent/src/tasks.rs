//! The agent's background tasks. One signal stops all of them, and shutdown waits for them within a limit.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long tasks may take to stop.
const END_MAX: Duration = Duration::from_secs(10);

/// A set of tasks with one stop signal.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    /// Cancelled when the agent shuts down.
    pub(crate) stop: CancellationToken,
}

impl Tasks {
    /// An empty set whose tasks stop with `stop`.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop,
        }
    }

    /// Runs a task that watches `stop` itself.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Runs a task that may be dropped at any await point.
    pub(crate) fn spawn_until_stop(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            let _ = stop.run_until_cancelled(task).await;
        });
    }

    /// Stops all tasks and waits for them within a limit.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(END_MAX, self.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!("some tasks did not stop in time; the journal records their progress");
        }
    }
}
