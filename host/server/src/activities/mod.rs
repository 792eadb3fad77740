//! What workflows do to the world. Every activity looks first and is safe to repeat; every undo tolerates that nothing was done.

mod commands;
mod enrolment;
mod keys;
mod left_machines;
mod machines;
mod migrations;
mod nodes;
mod operations;
mod targets;

use std::future::Future;

use host_workflows::migrate_activities::{
    CheckConcluded, CheckFence, CheckMigration, CheckSettled, ClaimTarget, DestroyTarget,
    FenceSource, FenceTarget, MarkMigrating, MarkMigrationFailed, PlaceOnTarget, ReleaseSource,
    RestoreSource,
};
use host_workflows::node_activities::{
    BackUpKeys, BootstrapAgent, CheckAgent, CheckNodeHealth, ClaimMachine, CommandStatus,
    CreateMachine, DeleteKeys, DestroyMachine, FailOperation, FinishOperation, GenerateKeys,
    MarkFailed, MarkSyncing, MarkTerminated, MarkTerminating, PlanMachine, ReportStep, RetireKeys,
    RevokeEnrolmentToken, SendCommand, ValidateInputs, WithdrawCommand,
};
use host_workflows::{Activities, Activity, ActivityContext, ActivityError};

pub(crate) use left_machines::give_back;

use crate::app::App;
use crate::ops::OpError;
use host_store::retried;

/// Everything that the workflows of this host can ask for.
pub(crate) fn all(app: &App) -> Activities {
    let mut activities = Activities::default();
    on(&mut activities, app, ReportStep, operations::report_step);
    let finisher = app.clone();
    activities.on(FinishOperation, move |_: ActivityContext, node| {
        let app = finisher.clone();
        async move {
            let is_finished = operations::finish(app, node)
                .await
                .map_err(activity_error)?;
            is_finished.then_some(()).ok_or_else(cancelled_late)
        }
    });
    on(&mut activities, app, ValidateInputs, nodes::validate_inputs);
    on(&mut activities, app, MarkSyncing, nodes::mark_syncing);
    on(&mut activities, app, CheckNodeHealth, nodes::check_health);
    on(&mut activities, app, MarkFailed, nodes::mark_failed);
    on(
        &mut activities,
        app,
        MarkTerminating,
        nodes::mark_terminating,
    );
    on(&mut activities, app, MarkTerminated, nodes::mark_terminated);
    on(&mut activities, app, ClaimMachine, machines::claim);
    on_machine(&mut activities, app, PlanMachine, machines::plan);
    on_machine(&mut activities, app, CreateMachine, machines::create);
    on_machine(&mut activities, app, BootstrapAgent, machines::bootstrap);
    on_machine(&mut activities, app, DestroyMachine, machines::destroy);
    on(&mut activities, app, GenerateKeys, keys::generate_missing);
    on(&mut activities, app, DeleteKeys, keys::delete);
    on(&mut activities, app, BackUpKeys, keys::back_up);
    on(&mut activities, app, FailOperation, operations::fail);
    on(&mut activities, app, RetireKeys, keys::retire);
    on(
        &mut activities,
        app,
        RevokeEnrolmentToken,
        enrolment::revoke_tokens,
    );
    on(&mut activities, app, CheckAgent, enrolment::check_agent);
    let sender = app.clone();
    activities.on(SendCommand, move |ctx: ActivityContext, request| {
        let app = sender.clone();
        async move {
            let send = || commands::send(app.clone(), ctx.workflow_id(), request.clone());
            retried(send).await.map_err(activity_error)
        }
    });
    on(&mut activities, app, CommandStatus, commands::status);
    on(&mut activities, app, WithdrawCommand, commands::withdraw);
    on_migrations(&mut activities, app);
    activities
}

fn on_migrations(activities: &mut Activities, app: &App) {
    on(activities, app, CheckMigration, migrations::check);
    on(activities, app, MarkMigrating, migrations::mark_migrating);
    on(activities, app, ClaimTarget, targets::claim);
    on_machine(activities, app, DestroyTarget, targets::destroy);
    on(activities, app, FenceSource, migrations::fence_source);
    on(activities, app, FenceTarget, migrations::fence_target);
    on(activities, app, CheckFence, migrations::check_fence);
    on(activities, app, PlaceOnTarget, migrations::place_on_target);
    on(activities, app, RestoreSource, migrations::restore_source);
    on(activities, app, CheckSettled, migrations::check_settled);
    on(activities, app, CheckConcluded, migrations::check_concluded);
    on(
        activities,
        app,
        MarkMigrationFailed,
        migrations::mark_failed,
    );
    let finisher = app.clone();
    activities.on(ReleaseSource, move |_: ActivityContext, moving| {
        let app = finisher.clone();
        async move {
            let is_finished = migrations::release_source(app, moving)
                .await
                .map_err(activity_error)?;
            is_finished.then_some(()).ok_or_else(cancelled_late)
        }
    });
}

/// A cancel that came with the last step is obeyed: whoever asked for it counts on the undo.
fn cancelled_late() -> ActivityError {
    ActivityError::permanent("cancelled", "cancelled at its last step")
}

fn on<A, F, Fut>(activities: &mut Activities, app: &App, activity: A, run: F)
where
    A: Activity,
    A::Input: Clone,
    F: Fn(App, A::Input) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<A::Output, OpError>> + Send + 'static,
{
    let app = app.clone();
    activities.on(activity, move |_: ActivityContext, input| {
        let app = app.clone();
        async move {
            // Every activity may be done twice; what the database undid need not wait for the engine's next try.
            let done = retried(|| run(app.clone(), input.clone())).await;
            done.map_err(activity_error)
        }
    });
}

/// An activity that waits for a machine: it tells and hears of its try, and has errors of its own.
fn on_machine<A, F, Fut>(activities: &mut Activities, app: &App, activity: A, run: F)
where
    A: Activity,
    F: Fn(App, ActivityContext, A::Input) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<A::Output, ActivityError>> + Send + 'static,
{
    let app = app.clone();
    activities.on(activity, move |ctx, input| run(app.clone(), ctx, input));
}

/// What another try would not mend ends the workflow; the rest is tried again.
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

/// The error with its sources: a workflow's history is where an operator looks for them.
fn describe(error: &OpError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
