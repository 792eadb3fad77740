//! What this host works off for Temporal: turns of workflows, and tries of activities.
//!
//! Core (Temporal's own library) polls, keeps histories and checks replays; it never offers a second turn of a workflow before
//! the first one is answered, so turns are taken one after the other and only their answers travel side by side. How many
//! turns and tries are out at once is bounded by core's slots.

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

/// How long the last answers may take to reach Temporal when the host ends.
const ANSWERS_MAX: Duration = Duration::from_secs(5);

/// The working half of the engine.
pub(super) struct Worker {
    core: Arc<Core>,
    tasks: TaskTracker,
    tries: Arc<Tries>,
}

impl Worker {
    /// Begins to work.
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

    /// Takes up nothing new, gives running tries `grace` to end, and hands back those that did not: Temporal offers them to
    /// another host, or to the next process of this one.
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
                tracing::warn!("Temporal did not take the last answers; it repeats those steps");
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
                // Core retries what may pass; what it hands on is a refusal, such as a namespace that was deleted.
                tracing::error!(error = %status, "Temporal gives this host no workflows; check the namespace and the rights of its key");
                tokio::time::sleep(code.turn_limit).await;
                continue;
            }
        };
        let completion = take_turn(&code, &mut runs, activation);
        let core = Arc::clone(&core);
        tasks.spawn(async move {
            if let Err(error) = core.complete_workflow_activation(completion).await {
                tracing::warn!(%error, "a turn of a workflow was not taken by Temporal, which offers it again");
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
            tracing::warn!(workflow.run = run_id, %error, "a workflow can't go on here");
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

/// The tries that run here.
struct Tries {
    core: Arc<Core>,
    activities: Activities,
    heartbeat_every: Duration,
    running: Mutex<HashMap<Vec<u8>, Arc<Asked>>>,
    /// Cancelled when the host ends and its patience with them has, too.
    hand_back: CancellationToken,
}

/// What a running try was asked.
struct Asked {
    /// To end soon, cleanly.
    stop: CancellationToken,
    /// To end now: Temporal does not wait for it any more.
    leave: CancellationToken,
}

impl Tries {
    fn running(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Arc<Asked>>> {
        // Nothing panics while holding it.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self, token: &[u8], reason: ActivityCancelReason) {
        let Some(asked) = self.running().get(token).cloned() else {
            return;
        };
        match reason {
            ActivityCancelReason::Cancelled => asked.stop.cancel(),
            ActivityCancelReason::NotFound
            | ActivityCancelReason::TimedOut
            | ActivityCancelReason::WorkerShutdown
            | ActivityCancelReason::Paused
            | ActivityCancelReason::Reset => asked.leave.cancel(),
        }
    }

    /// Runs one try and answers for it.
    async fn run(&self, token: Vec<u8>, start: Start, asked: Arc<Asked>) {
        let outcome = self.outcome(&token, &start, &asked).await;
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
            tracing::warn!(activity.name = start.activity_type, %error, "the end of an activity was not taken by Temporal, which repeats it");
        }
    }

    /// How the try ended; of a failed one, whether the workflow is to hear of it.
    async fn outcome(
        &self,
        token: &[u8],
        start: &Start,
        asked: &Asked,
    ) -> Result<String, (TryFailed, bool)> {
        let call: Option<ActivityCall> = start.input.first().and_then(payload::decoded);
        let Some(mut call) = call else {
            let error = ActivityError::permanent("exchange", "an unreadable call");
            return Err((error.into(), true));
        };
        let Some(handler) = self.activities.handler(&start.activity_type) else {
            // An older host than the workflow's: another one may know it.
            let message = format!("this host has no activity `{}`", start.activity_type);
            return Err((ActivityError::retryable("engine", message).into(), false));
        };
        // What an earlier run of this try reported before its worker died.
        if let Some(last) = start.heartbeat_details.first().and_then(payload::decoded) {
            call.last = last;
        }
        let beats = Beats::new(asked.stop.clone());
        let workflow_id = start.workflow_execution.as_ref();
        let workflow_id = workflow_id.map_or("", |execution| &execution.workflow_id);
        let left = async {
            tokio::select! {
                () = asked.leave.cancelled() => {}
                () = self.hand_back.cancelled() => {}
                never = self.say_alive(token, &beats) => match never {},
            }
            ActivityError::retryable("interrupted", "the host that ran it let go of it")
        };
        let outcome = run_try(handler, workflow_id, &call, &beats, left).await;
        let is_left = asked.leave.is_cancelled() || self.hand_back.is_cancelled();
        outcome.map_err(|failed| {
            let is_handed_back = is_left && failed.error.code == "interrupted";
            (failed, !is_handed_back)
        })
    }

    /// Tells Temporal again and again that this host lives and how far the try is; the answers bring cancels.
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
                tracing::error!(error = %status, "Temporal gives this host no activities; check the namespace and the rights of its key");
                tokio::time::sleep(tries.heartbeat_every).await;
                continue;
            }
        };
        match task.variant {
            Some(TryTask::Start(start)) => {
                let asked = Arc::new(Asked {
                    stop: CancellationToken::new(),
                    leave: CancellationToken::new(),
                });
                let known = Arc::clone(&asked);
                tries.running().insert(task.task_token.clone(), known);
                let tries = Arc::clone(&tries);
                tasks.spawn(async move { tries.run(task.task_token, start, asked).await });
            }
            Some(TryTask::Cancel(cancel)) => tries.cancel(&task.task_token, cancel.reason()),
            None => {}
        }
    }
}
