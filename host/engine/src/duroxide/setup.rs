//! Prepares duroxide: options, workflows and activities in its types, and the opened file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use duroxide::providers::sqlite::SqliteProvider;
use duroxide::runtime::RuntimeOptions;
use duroxide::runtime::registry::{ActivityRegistry, OrchestrationRegistry};
use host_domain::time::Clock;
use host_workflows::{Activities, Flow, Workflows};

use super::control::{self, DuroxideControl};
use super::work;
use crate::given::missing_activity;
use host_system::SystemClock;

/// The options of the engine.
#[derive(Clone)]
pub struct DuroxideOptions {
    /// The maximum of activities that run at once.
    pub worker_concurrency: usize,
    /// How often a running activity polls whether its workflow was cancelled.
    pub cancel_poll: Duration,
    /// The clock for the start times of workflows.
    pub clock: Arc<dyn Clock>,
}

impl Default for DuroxideOptions {
    fn default() -> Self {
        Self {
            worker_concurrency: 16,
            cancel_poll: Duration::from_secs(1),
            clock: Arc::new(SystemClock),
        }
    }
}

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another host runs on the same file.
    #[error(
        "another host holds the lock {}; stop that host, or set another `state_dir` for this one",
        path.display()
    )]
    Held {
        /// The lock file.
        path: PathBuf,
    },
    /// A file could not be used.
    #[error("the host can't open {}; check that the directory exists and is writable", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: anyhow::Error,
    },
    /// A workflow calls an activity that this host does not implement.
    #[error("the workflow `{kind}` calls `{activity}`, which no activity of this host implements")]
    MissingActivity {
        /// The workflow.
        kind: String,
        /// The activity.
        activity: String,
    },
}

/// Rejects workflows whose activities are not implemented.
pub(super) fn check_activities(
    workflows: &Workflows,
    activities: &Activities,
) -> Result<(), StartError> {
    match missing_activity(workflows, activities) {
        None => Ok(()),
        Some((kind, activity)) => Err(StartError::MissingActivity {
            kind: kind.to_owned(),
            activity: activity.to_owned(),
        }),
    }
}

/// Opens the engine's file after releasing the locks of killed hosts.
pub(super) async fn open(path: &Path) -> Result<SqliteProvider, StartError> {
    let file = |source: anyhow::Error| StartError::File {
        path: path.to_owned(),
        source,
    };
    if path.exists() {
        super::engine_file::lift_locks(path)
            .await
            .map_err(|error| file(error.into()))?;
    }
    let url = format!("sqlite://{}?mode=rwc", path.display());
    SqliteProvider::new(&url, None)
        .await
        .map_err(|error| file(anyhow::anyhow!("{error}")))
}

/// The runtime options.
pub(super) fn runtime_options(options: &DuroxideOptions) -> RuntimeOptions {
    RuntimeOptions {
        orchestration_concurrency: 2,
        worker_concurrency: options.worker_concurrency,
        dispatcher_min_poll_interval: Duration::from_millis(50),
        worker_lock_timeout: Duration::from_secs(10),
        orchestrator_lock_timeout: Duration::from_secs(15),
        max_attempts: 1000,
        ..RuntimeOptions::default()
    }
}

/// The activities in duroxide's types.
pub(super) fn activity_registry(
    activities: &Activities,
    cancel_poll: Duration,
) -> ActivityRegistry {
    let mut registry = ActivityRegistry::builder();
    for name in activities.names() {
        if let Some(handler) = activities.handler(name) {
            registry = registry.register(name, move |ctx, call| {
                work::run(Arc::clone(&handler), ctx, call, cancel_poll)
            });
        }
    }
    registry.build()
}

/// Every version of every workflow in duroxide's types.
pub(super) fn workflow_registry(workflows: &Workflows) -> OrchestrationRegistry {
    let mut registry = OrchestrationRegistry::builder();
    for workflow in workflows.iter() {
        let run = Arc::clone(&workflow.run);
        registry =
            registry.register_versioned(workflow.kind, workflow.version, move |ctx, input| {
                let run = Arc::clone(&run);
                async move {
                    let flow = Flow::new(Arc::new(DuroxideControl::new(ctx)));
                    run(flow, input)
                        .await
                        .map_err(|failure| control::failure_text(&failure))
                }
            });
    }
    registry.build()
}
