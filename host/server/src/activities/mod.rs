//! What workflows do to the world. Every activity checks first and is safe to repeat; every undo tolerates that nothing was done.
//!
//! Each noun's file registers its activities in `register`; [`all`] lists the nouns.

mod commands;
mod enrolment;
mod keys;
mod left_machines;
mod machine_work;
mod machines;
mod migration_rows;
mod migrations;
mod nodes;
mod operations;
mod targets;

use std::future::Future;

use host_workflows::{Activities, Activity, ActivityContext, ActivityError};

pub(crate) use left_machines::give_back;
pub(crate) use machine_work::MachineWork;

use crate::ops::{OpError, Records};
use crate::services::Services;
use host_store::retried;

/// Every activity of the workflows, on the given records.
pub(crate) fn all(services: &Services, records: &Records) -> Activities {
    let mut activities = Activities::default();
    for register in [
        commands::register,
        enrolment::register,
        keys::register,
        machines::register,
        migrations::register,
        nodes::register,
        operations::register,
        targets::register,
    ] {
        register(&mut activities, services, records);
    }
    activities
}

/// A cancel that arrives with the last step still counts: the caller expects the undo.
fn cancelled_late() -> ActivityError {
    ActivityError::permanent("cancelled", "cancelled at its last step")
}

/// Registers an activity that reads and writes rows. A transaction that the database rolled back is repeated at once, before the
/// engine's next try.
fn on<W, A, F, Fut>(activities: &mut Activities, work: &W, activity: A, run: F)
where
    W: Clone + Send + Sync + 'static,
    A: Activity,
    A::Input: Clone,
    F: Fn(W, A::Input) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<A::Output, OpError>> + Send + 'static,
{
    let work = work.clone();
    activities.on(activity, move |_: ActivityContext, input| {
        let work = work.clone();
        async move {
            let done = retried(|| run(work.clone(), input.clone())).await;
            done.map_err(activity_error)
        }
    });
}

/// Registers an activity that works on a machine: it heartbeats, and has errors of its own.
fn on_machine<W, A, F, Fut>(activities: &mut Activities, work: &W, activity: A, run: F)
where
    W: Clone + Send + Sync + 'static,
    A: Activity,
    F: Fn(W, ActivityContext, A::Input) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<A::Output, ActivityError>> + Send + 'static,
{
    let work = work.clone();
    activities.on(activity, move |ctx, input| run(work.clone(), ctx, input));
}

/// Registers an activity that ends a workflow: `false` means that somebody cancelled the operation before.
fn on_end<W, A, F, Fut>(activities: &mut Activities, work: &W, activity: A, run: F)
where
    W: Clone + Send + Sync + 'static,
    A: Activity<Output = ()>,
    F: Fn(W, A::Input) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<bool, OpError>> + Send + 'static,
{
    let work = work.clone();
    activities.on(activity, move |_: ActivityContext, input| {
        let ended = run(work.clone(), input);
        async move {
            let is_finished = ended.await.map_err(activity_error)?;
            is_finished.then_some(()).ok_or_else(cancelled_late)
        }
    });
}

/// An error that a retry can't fix ends the workflow; the engine retries the others.
fn activity_error(error: OpError) -> ActivityError {
    let text = describe(&error);
    match error {
        OpError::Stale { .. } => ActivityError::retryable("stale", text),
        OpError::Unavailable { .. } => ActivityError::retryable("unavailable", text),
        OpError::Internal(_) => ActivityError::retryable("internal", text),
        OpError::NotFound { .. } => ActivityError::permanent("not_found", text),
        OpError::Conflict(_) => ActivityError::permanent("conflict", text),
        OpError::Invalid { .. } => ActivityError::permanent("invalid", text),
        OpError::IllegalTransition(_)
        | OpError::IllegalIncidentEvent(_)
        | OpError::IllegalSubscriptionEvent(_) => {
            ActivityError::permanent("illegal_transition", text)
        }
    }
}

/// The error with its sources: operators read them in a workflow's history.
fn describe(error: &OpError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
