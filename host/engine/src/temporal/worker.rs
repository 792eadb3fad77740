//! The worker: runs turns of workflows and attempts of activities for Temporal.
//!
//! Core (Temporal's own library) polls, keeps histories and checks replays. It never offers a second turn of a
//! workflow before the first one is answered, so turns run one after the other and only their answers are sent
//! concurrently. Core's slots limit the number of concurrent turns and attempts.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host_workflows::{Activities, ActivityCall, ActivityError, TryFailed};
use temporalio_common::protos::coresdk::activity_result::ActivityExecutionResult;
use temporalio_common::protos::coresdk::activity_task::{
    ActivityCancelReason, Start, activity_task::Variant as TryTask,
};
use temporalio_common::protos::coresdk::workflow_activation::WorkflowActivation;
use temporalio_common::protos::coresdk::workflow_activation::workflow_activation_job::Variant as Job;
use temporalio_common::protos::coresdk::workflow_completion::WorkflowActivationCompletion;
use temporalio_common::protos::coresdk::{ActivityHeartbeat, ActivityTaskCompletion};
use temporalio_common::protos::temporal::api::enums::v1::WorkflowTaskFailedCause;
use temporalio_sdk_core::{PollError, Worker as Core};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::code::Code;
use super::payload;
use super::run::{Run, TurnError};
use crate::tries::{Beats, run_try};

/// How long the last answers may take to reach Temporal at shutdown.
const ANSWERS_MAX: Duration = Duration::from_secs(5);

/// The part of the engine that runs work.
pub(super) struct Worker {
    core: Arc<Core>,
    tasks: TaskTracker,
    tries: Arc<Tries>,
}

impl Worker {
    /// Starts the worker.
    pub(super) fn start(
        core: Core,
        code: Arc<Code>,
        activities: Activities,
        heartbeat_every: Duration,
    ) -> Self {
        let core = Arc::new(core);
        let tasks = TaskTracker::new();
        let tries = Arc::new(Tries {
            core: Arc::clone(&core),
            activities,
            heartbeat_every,
            running: Mutex::default(),
            hand_back: CancellationToken::new(),
        });
        tasks.spawn(take_turns(Arc::clone(&core), code, tasks.clone()));
        tasks.spawn(take_tries(Arc::clone(&tries), tasks.clone()));
        Self { core, tasks, tries }
    }

    /// Stops polling, waits at most `grace` for running attempts, and returns the unfinished ones: Temporal offers
    /// them to another host, or to the next process of this one.
    pub(super) async fn shutdown(&self, grace: Duration) {
        self.core.initiate_shutdown();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait())
            .await
            .is_err()
        {
            self.tries.hand_back.cancel();
            if tokio::time::timeout(ANSWERS_MAX, self.tasks.wait())
                .await
                .is_err()
            {
                tracing::warn!(
                    "Temporal did not receive the last answers; it will repeat those steps"
                );
            }
        }
        drop(tokio::time::timeout(ANSWERS_MAX, self.core.shutdown()).await);
    }
}

async fn take_turns(core: Arc<Core>, code: Arc<Code>, tasks: TaskTracker) {
    let mut runs = HashMap::new();
    loop {
        let activation = match core.poll_workflow_activation().await {
            Ok(activation) => activation,
            Err(PollError::ShutDown) => return,
            Err(PollError::TonicError(status)) => {
                // Core retries transient errors; it reports only permanent ones, such as a deleted namespace.
                tracing::error!(error = %status, "Temporal rejects this host's polls for workflows; check the namespace and the permissions of the API key");
                tokio::time::sleep(code.turn_limit).await;
                continue;
            }
        };
        let completion = take_turn(&code, &mut runs, activation);
        let core = Arc::clone(&core);
        tasks.spawn(async move {
            if let Err(error) = core.complete_workflow_activation(completion).await {
                tracing::warn!(%error, "Temporal did not accept the result of a workflow turn; it will offer the turn again");
            }
        });
    }
}

fn take_turn(
    code: &Arc<Code>,
    runs: &mut HashMap<String, Run>,
    activation: WorkflowActivation,
) -> WorkflowActivationCompletion {
    let run_id = activation.run_id;
    let jobs = activation.jobs.into_iter().filter_map(|job| job.variant);
    match turn(code, runs, &run_id, jobs) {
        Ok(commands) => WorkflowActivationCompletion::from_cmds(run_id, commands),
        Err(error) => {
            tracing::warn!(workflow.run = run_id, %error, "this host can't continue a workflow");
            runs.remove(&run_id);
            let cause = Some(WorkflowTaskFailedCause::WorkflowWorkerUnhandledFailure);
            WorkflowActivationCompletion::fail(run_id, error.to_string().into(), cause)
        }
    }
}

fn turn(
    code: &Arc<Code>,
    runs: &mut HashMap<String, Run>,
    run_id: &str,
    jobs: impl Iterator<Item = Job>,
) -> Result<
    Vec<temporalio_common::protos::coresdk::workflow_commands::workflow_command::Variant>,
    TurnError,
> {
    for job in jobs {
        match job {
            Job::InitializeWorkflow(init) => {
                runs.insert(run_id.to_owned(), Run::begin(code, init)?);
            }
            Job::RemoveFromCache(_) => {
                runs.remove(run_id);
            }
            job => {
                if let Some(run) = runs.get(run_id) {
                    run.take(job);
                }
            }
        }
    }
    match runs.get_mut(run_id) {
        Some(run) => run.go_on(),
        None => Ok(Vec::new()),
    }
}

/// The running attempts.
struct Tries {
    core: Arc<Core>,
    activities: Activities,
    heartbeat_every: Duration,
    running: Mutex<HashMap<Vec<u8>, Arc<StopSignals>>>,
    /// Cancelled at shutdown once the grace period is over.
    hand_back: CancellationToken,
}

/// The cancellation of a running attempt.
struct StopSignals {
    /// Asks the attempt to end soon and cleanly.
    stop: CancellationToken,
    /// Drops the attempt: Temporal does not wait for it any more.
    leave: CancellationToken,
}

impl Tries {
    fn running(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Arc<StopSignals>>> {
        // No holder panics.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self, token: &[u8], reason: ActivityCancelReason) {
        let Some(signals) = self.running().get(token).cloned() else {
            return;
        };
        match reason {
            ActivityCancelReason::Cancelled => signals.stop.cancel(),
            ActivityCancelReason::NotFound
            | ActivityCancelReason::TimedOut
            | ActivityCancelReason::WorkerShutdown
            | ActivityCancelReason::Paused
            | ActivityCancelReason::Reset => signals.leave.cancel(),
        }
    }

    /// Runs one attempt and reports its result.
    async fn run(&self, token: Vec<u8>, start: Start, signals: Arc<StopSignals>) {
        let outcome = self.outcome(&token, &start, &signals).await;
        self.running().remove(&token);
        let result = match outcome {
            Ok(output) => ActivityExecutionResult::ok(payload::payload(output)),
            Err((failed, is_last)) => {
                ActivityExecutionResult::fail(payload::try_failed(&failed, is_last))
            }
        };
        let completion = ActivityTaskCompletion {
            task_token: token,
            result: Some(result),
        };
        if let Err(error) = self.core.complete_activity_task(completion).await {
            tracing::warn!(activity.name = start.activity_type, %error, "Temporal did not accept the result of an activity; it will repeat the activity");
        }
    }

    /// The result of the attempt; for a failed one, also whether the workflow sees the failure.
    async fn outcome(
        &self,
        token: &[u8],
        start: &Start,
        signals: &StopSignals,
    ) -> Result<String, (TryFailed, bool)> {
        let call: Option<ActivityCall> = start.input.first().and_then(payload::decoded);
        let Some(mut call) = call else {
            let error = ActivityError::permanent(
                "exchange",
                "the host can't parse the call of the activity",
            );
            return Err((error.into(), true));
        };
        let Some(handler) = self.activities.handler(&start.activity_type) else {
            // This host is older than the workflow's; another host may have the activity.
            let message = format!("this host has no activity `{}`", start.activity_type);
            return Err((ActivityError::retryable("engine", message).into(), false));
        };
        // The heartbeat of an earlier run of this attempt whose worker died.
        if let Some(last) = start.heartbeat_details.first().and_then(payload::decoded) {
            call.last = last;
        }
        let beats = Beats::new(signals.stop.clone());
        let workflow_id = start.workflow_execution.as_ref();
        let workflow_id = workflow_id.map_or("", |execution| &execution.workflow_id);
        let left = async {
            tokio::select! {
                () = signals.leave.cancelled() => {}
                () = self.hand_back.cancelled() => {}
                never = self.say_alive(token, &beats) => match never {},
            }
            ActivityError::retryable("interrupted", "the host that ran the activity shut down")
        };
        let outcome = run_try(handler, workflow_id, &call, &beats, left).await;
        let is_left = signals.leave.is_cancelled() || self.hand_back.is_cancelled();
        outcome.map_err(|failed| {
            let is_handed_back = is_left && failed.error.code == "interrupted";
            (failed, !is_handed_back)
        })
    }

    /// Sends heartbeats with the attempt's progress to Temporal, whose answers carry cancels.
    async fn say_alive(&self, token: &[u8], beats: &Beats) -> Infallible {
        loop {
            tokio::time::sleep(self.heartbeat_every).await;
            let last = payload::encoded(&*beats.last());
            self.core.record_activity_heartbeat(ActivityHeartbeat {
                task_token: token.to_vec(),
                details: last.into_iter().collect(),
            });
        }
    }
}

async fn take_tries(tries: Arc<Tries>, tasks: TaskTracker) {
    loop {
        let task = match tries.core.poll_activity_task().await {
            Ok(task) => task,
            Err(PollError::ShutDown) => return,
            Err(PollError::TonicError(status)) => {
                tracing::error!(error = %status, "Temporal rejects this host's polls for activities; check the namespace and the permissions of the API key");
                tokio::time::sleep(tries.heartbeat_every).await;
                continue;
            }
        };
        match task.variant {
            Some(TryTask::Start(start)) => {
                let signals = Arc::new(StopSignals {
                    stop: CancellationToken::new(),
                    leave: CancellationToken::new(),
                });
                let known = Arc::clone(&signals);
                tries.running().insert(task.task_token.clone(), known);
                let tries = Arc::clone(&tries);
                tasks.spawn(async move { tries.run(task.task_token, start, signals).await });
            }
            Some(TryTask::Cancel(cancel)) => tries.cancel(&task.task_token, cancel.reason()),
            None => {}
        }
    }
}
