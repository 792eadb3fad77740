//! Migrating: a node that is down gets another host, with its keys and without ever running twice.
//!
//! The order is what makes it safe. The old host is fenced first: it gets no more leases and no keys. Then either its
//! agent has stopped the processes and says so, or the last lease is waited for. Only then the keys may go anywhere else.
//! Going back is the same in the other direction. What the node has to catch up it gets from its peers.

use std::time::Duration;

use host_domain::ids::NodeId;
use host_domain::time::duration_text;
use serde::{Deserialize, Serialize};

use crate::activity::Activity;
use crate::command::{At, Done, command_id, run_command_at, run_undo_command_at};
use crate::error::{ActivityError, Failure, FlowError, Leftover};
use crate::flow::Flow;
use crate::migrate_activities::{
    CheckConcluded, CheckFence, CheckMigration, CheckSettled, FenceSource, FenceTarget, Fenced,
    MarkMigrating, MarkMigrationFailed, Moving, PlaceOnTarget, ReleaseSource, ReleaseTarget,
    ReserveTarget, RestoreSource, SettledQuery,
};
use crate::node_activities::{
    CommandAction, CommandRef, CommandRequest, CommandState, CommandStatus, FailedNode,
    MarkSyncing, NodeRef, ReportStep, SendCommand, Sent, StepState, WithdrawCommand,
};
use crate::provision_node::{NODE_HEALTH, report};
use crate::undo::Undos;
use crate::wait::until;
use crate::workflow::Workflow;

/// The steps, in their order, as an operation shows them.
pub const STEPS: &[&str] = &[
    "check_migration",
    "mark_migrating",
    "reserve_target",
    "fence_source",
    "prepare",
    "install",
    "mark_syncing",
    "wait_until_settled",
    RELEASE_SOURCE,
];

/// The last step.
const RELEASE_SOURCE: &str = "release_source";

/// Nobody sends to it: the end of a lease is only a matter of time.
const FENCE: &str = "fence";

/// The workflow's id: a trigger that repeats is the same migration.
pub fn workflow_id(node_id: NodeId, health_state_version: i64) -> String {
    format!("migrate-node-{node_id}-{health_state_version}")
}

/// What a migration is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrateInput {
    /// Version of this struct.
    pub version: u16,
    /// The node and its operation.
    #[serde(flatten)]
    pub node: NodeRef,
    /// How long each wait may take.
    pub limits: MigrateLimits,
}

impl MigrateInput {
    /// An input of the present version.
    pub fn new(node: NodeRef, limits: MigrateLimits) -> Self {
        Self {
            version: 1,
            node,
            limits,
        }
    }
}

/// How long each wait of a migration may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrateLimits {
    /// For the old agent to stop the processes, when it can be reached at all.
    #[serde(with = "duration_text")]
    pub stop: Duration,
    /// Until the last lease is over; more than it can ever take.
    #[serde(with = "duration_text")]
    pub fence: Duration,
    /// For the folder and the ports.
    #[serde(with = "duration_text")]
    pub prepare: Duration,
    /// For the recipe.
    #[serde(with = "duration_text")]
    pub install: Duration,
    /// How long the node has to be healthy.
    #[serde(with = "duration_text")]
    pub settle: Duration,
    /// Until it has been.
    #[serde(with = "duration_text")]
    pub settled: Duration,
    /// For removing the node from the new host again.
    #[serde(with = "duration_text")]
    pub uninstall: Duration,
}

impl Default for MigrateLimits {
    fn default() -> Self {
        Self {
            stop: Duration::from_secs(30),
            fence: Duration::from_hours(1),
            prepare: Duration::from_mins(2),
            install: Duration::from_hours(2),
            settle: Duration::from_mins(5),
            settled: Duration::from_hours(1),
            uninstall: Duration::from_mins(2),
        }
    }
}

/// The workflow.
pub struct MigrateNode;

impl Workflow for MigrateNode {
    const KIND: &'static str = "migrate-node";
    const VERSION: &'static str = "1.0.0";
    const ACTIVITIES: &'static [&'static str] = &[
        ReportStep::NAME,
        CheckMigration::NAME,
        MarkMigrating::NAME,
        ReserveTarget::NAME,
        ReleaseTarget::NAME,
        FenceSource::NAME,
        FenceTarget::NAME,
        CheckFence::NAME,
        PlaceOnTarget::NAME,
        RestoreSource::NAME,
        SendCommand::NAME,
        CommandStatus::NAME,
        WithdrawCommand::NAME,
        MarkSyncing::NAME,
        CheckSettled::NAME,
        ReleaseSource::NAME,
        CheckConcluded::NAME,
        MarkMigrationFailed::NAME,
    ];
    type Input = MigrateInput;
    type Output = ();

    async fn run(flow: Flow, input: MigrateInput) -> Result<(), Failure> {
        let mut run = Run {
            flow,
            input,
            undos: Undos::default(),
            step: STEPS[0],
        };
        match run.forward().await {
            Ok(()) => Ok(()),
            Err(_) if run.is_concluded().await => Ok(()),
            Err(error) => Err(run.unwind(&error).await),
        }
    }
}

struct Run {
    flow: Flow,
    input: MigrateInput,
    undos: Undos,
    /// The step that runs, for the failure.
    step: &'static str,
}

impl Run {
    async fn forward(&mut self) -> Result<(), FlowError> {
        let node = self.input.node;

        self.begin("check_migration").await?;
        self.flow.activity(CheckMigration, &node).await?;

        self.begin("mark_migrating").await?;
        self.flow.activity(MarkMigrating, &node).await?;

        self.begin("reserve_target").await?;
        self.undos.push("release_target", move |flow| async move {
            flow.activity(ReleaseTarget, &node).await
        });
        let route = self.flow.activity(ReserveTarget, &node).await?;
        let moving = Moving { node, route };

        let fenced = self.fence(moving).await?;
        self.install(moving, fenced).await?;

        self.begin(RELEASE_SOURCE).await?;
        self.flow.activity(ReleaseSource, &moving).await
    }

    /// When this is over the old process is gone, and the new host may have the keys.
    async fn fence(&mut self, moving: Moving) -> Result<Fenced, FlowError> {
        let limits = self.input.limits;
        self.begin("fence_source").await?;
        self.undos.push("restore_source", move |flow| async move {
            go_back(&flow, moving, &limits).await
        });
        let flow = &self.flow;
        let fenced = flow.activity(FenceSource, &moving).await?;
        stop_source(flow, moving, fenced, &limits).await?;
        flow.activity(PlaceOnTarget, &moving).await?;
        Ok(fenced)
    }

    async fn install(&mut self, moving: Moving, fenced: Fenced) -> Result<(), FlowError> {
        let (node, limits) = (moving.node, self.input.limits);
        for (action, limit) in [
            (CommandAction::Prepare, limits.prepare),
            (CommandAction::Install, limits.install),
        ] {
            self.begin(action.as_str()).await?;
            let at = At {
                host_id: Some(moving.route.target),
                step: &format!("{}-{}", action.as_str(), fenced.at),
            };
            match run_command_at(&self.flow, node, at, action, limit).await? {
                Done::Succeeded => {}
                Done::NoAgent => return Err(no_agent(action)),
            }
        }

        self.begin("mark_syncing").await?;
        self.flow.activity(MarkSyncing, &node).await?;

        self.begin("wait_until_settled").await?;
        let query = SettledQuery {
            node,
            settle: limits.settle,
        };
        let flow = &self.flow;
        let what = "a lasting healthy state of the moved node";
        until(flow, what, NODE_HEALTH, limits.settled, || async {
            let settled = flow.activity(CheckSettled, &query).await?;
            Ok(settled.is_ready.then_some(()))
        })
        .await
    }

    /// Shows the step. That it can't be shown is no reason to leave a node where it is.
    async fn begin(&mut self, step: &'static str) -> Result<(), FlowError> {
        self.step = step;
        let node = self.input.node;
        report(&self.flow, node, step, StepState::Started, String::new()).await;
        self.flow.go_on()
    }

    /// Whether the node has moved although the last step's answer was lost: then there is no way back.
    async fn is_concluded(&mut self) -> bool {
        if self.step != RELEASE_SOURCE {
            return false;
        }
        let flow = self.flow.shielded();
        let concluded = flow.activity(CheckConcluded, &self.input.node).await;
        concluded.is_ok_and(|concluded| concluded.is_ready)
    }

    async fn unwind(self, error: &FlowError) -> Failure {
        let node = self.input.node;
        let flow = self.flow.shielded();
        let told = &flow;
        let leftovers = self
            .undos
            .unwind(told, |undo, problem| async move {
                let state = if problem.is_none() {
                    StepState::Undone
                } else {
                    StepState::UndoFailed
                };
                report(told, node, undo, state, problem.unwrap_or_default()).await;
            })
            .await;
        let failure = Failure {
            leftovers,
            ..error.at(self.step)
        };
        let failed = FailedNode { node, failure };
        let marked = flow.activity(MarkMigrationFailed, &failed).await;
        let mut failure = failed.failure;
        if let Err(error) = marked {
            failure.leftovers.push(Leftover {
                undo: MarkMigrationFailed::NAME.to_owned(),
                message: error.to_string(),
            });
        }
        failure
    }
}

/// Comes back when the old agent says that it has stopped the processes, or when they can't run any longer without it.
async fn stop_source(
    flow: &Flow,
    moving: Moving,
    fenced: Fenced,
    limits: &MigrateLimits,
) -> Result<(), FlowError> {
    let step = format!("stop-{}", fenced.at);
    let command = CommandRef {
        command_id: command_id(&flow.id(), &step),
    };
    let request = CommandRequest {
        node: moving.node,
        command_id: command.command_id,
        action: CommandAction::Stop,
        limit: limits.stop,
        mailbox: format!("command:{step}"),
        host_id: Some(moving.route.source),
    };
    let is_sent = flow.activity(SendCommand, &request).await? == Sent::Queued;
    let holds_keys = moving.route.holds_keys;
    let limit = if holds_keys {
        limits.fence
    } else {
        limits.stop
    };
    let what = "the end of the old process";
    let ended = until(flow, what, &request.mailbox, limit, || async {
        // Only "done" is a proof. An agent that was cut off for good, or could not stop them, proves nothing.
        if is_sent && flow.activity(CommandStatus, &command).await? == CommandState::Succeeded {
            return Ok(Some(true));
        }
        let is_over = holds_keys && flow.activity(CheckFence, &moving).await?.is_ready;
        Ok((is_over || !(is_sent || holds_keys)).then_some(false))
    })
    .await;
    if is_sent && ended != Ok(true) {
        flow.shielded().activity(WithdrawCommand, &command).await?;
    }
    match ended {
        Ok(_) => Ok(()),
        // Without keys nothing is at stake, and an agent that can't be reached is what migrations are for.
        Err(FlowError::TimedOut { .. }) if !holds_keys => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes the node back from the new host, as surely as it was taken from the old one, and gives it back.
async fn go_back(flow: &Flow, moving: Moving, limits: &MigrateLimits) -> Result<(), FlowError> {
    let fenced = flow.activity(FenceTarget, &moving).await?;
    let at = At {
        host_id: Some(moving.route.target),
        step: &format!("undo-uninstall-{}", fenced.at),
    };
    let uninstall = CommandAction::Uninstall;
    let removed = run_undo_command_at(flow, moving.node, at, uninstall, limits.uninstall).await;
    if removed != Ok(Done::Succeeded) && moving.route.holds_keys {
        wait_for_fence(flow, moving, limits.fence).await?;
    }
    flow.activity(RestoreSource, &moving).await?;
    // It is where it was; what the new host may still have of it is named.
    removed.map(drop)
}

async fn wait_for_fence(flow: &Flow, moving: Moving, limit: Duration) -> Result<(), FlowError> {
    until(flow, "the end of the last lease", FENCE, limit, || async {
        let over = flow.activity(CheckFence, &moving).await?;
        Ok(over.is_ready.then_some(()))
    })
    .await
}

fn no_agent(step: CommandAction) -> FlowError {
    let message = "the host that takes the node lost its agent; migrate the node again";
    FlowError::Activity {
        activity: step.as_str().to_owned(),
        error: ActivityError::permanent("no_agent", message),
    }
}

#[cfg(test)]
mod tests;
