//! Node migration: moves a node that is down to another machine, with its keys and without ever running twice.
//!
//! The order makes it safe. First the host fences the old machine, which gets no more leases and no keys. Then either
//! its agent reports that the processes have stopped, or the workflow waits until the last lease has expired. Only
//! then may another machine have the keys. An undo does the same in the other direction. The node fetches missing
//! chain data from its peers.
//!
//! When the node has a machine of its own, the workflow creates the new machine before it touches the old one, so
//! that a failed creation costs nothing but time.

mod fence;

use std::time::Duration;

use host_domain::ids::NodeId;
use host_domain::time::duration_text;
use serde::{Deserialize, Serialize};

use crate::activity::Activity;
use crate::command::{At, Done, run_command_at};
use crate::error::{ActivityError, Failure, FlowError, Leftover};
use crate::flow::Flow;
use crate::migrate_activities::{
    CheckConcluded, CheckFence, CheckMigration, CheckSettled, ClaimTarget, DestroyTarget,
    FenceSource, FenceTarget, Fenced, MarkMigrating, MarkMigrationFailed, Moving, PlaceOnTarget,
    ReleaseSource, RestoreSource, SettledQuery,
};
use crate::node_activities::{
    BootstrapAgent, CheckAgent, CommandAction, CommandStatus, CreateMachine, FailedNode,
    MarkSyncing, NodeRef, PlanMachine, ReportStep, RevokeEnrolmentToken, SendCommand, StepState,
    WithdrawCommand,
};
use crate::provision_node::{NODE_HEALTH, report, wait_for_agent};
use crate::undo::Undos;
use crate::wait::until;
use crate::workflow::Workflow;
use fence::{go_back, stop_source};

/// The steps of the operation in order, for a node on a shared machine.
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

/// The steps for a node with a machine of its own.
pub const STEPS_WITH_MACHINE: &[&str] = &[
    "check_migration",
    "mark_migrating",
    "reserve_target",
    "plan_machine",
    "create_machine",
    "bootstrap_agent",
    "wait_for_agent",
    "fence_source",
    "prepare",
    "install",
    "mark_syncing",
    "wait_until_settled",
    RELEASE_SOURCE,
];

/// The last step.
pub const RELEASE_SOURCE: &str = "release_source";

/// The workflow's id: a repeated trigger finds the same migration.
pub fn workflow_id(node_id: NodeId, health_state_version: i64) -> String {
    format!("migrate-node-{node_id}-{health_state_version}")
}

/// The input of a node migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrateInput {
    /// Version of this struct.
    pub version: u16,
    /// The node and its operation.
    #[serde(flatten)]
    pub node: NodeRef,
    /// The time limit of each wait.
    pub limits: MigrateLimits,
}

impl MigrateInput {
    /// An input of the current version.
    pub fn new(node: NodeRef, limits: MigrateLimits) -> Self {
        Self {
            version: 1,
            node,
            limits,
        }
    }
}

/// The time limits of a node migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrateLimits {
    /// Until the agent of a new machine is connected.
    #[serde(with = "duration_text")]
    pub agent: Duration,
    /// For stopping the processes, when the old agent is connected.
    #[serde(with = "duration_text")]
    pub stop: Duration,
    /// Until the last lease has expired; longer than any lease.
    #[serde(with = "duration_text")]
    pub fence: Duration,
    /// For preparing the directory and the ports.
    #[serde(with = "duration_text")]
    pub prepare: Duration,
    /// For running the recipe.
    #[serde(with = "duration_text")]
    pub install: Duration,
    /// How long the node must stay healthy.
    #[serde(with = "duration_text")]
    pub settle: Duration,
    /// Until it has been healthy that long.
    #[serde(with = "duration_text")]
    pub settled: Duration,
    /// For removing the node from the new machine in an undo.
    #[serde(with = "duration_text")]
    pub uninstall: Duration,
}

impl Default for MigrateLimits {
    fn default() -> Self {
        Self {
            agent: Duration::from_mins(10),
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

/// The node migration workflow.
pub struct MigrateNode;

impl Workflow for MigrateNode {
    const KIND: &'static str = "migrate-node";
    const VERSION: &'static str = "1.0.0";
    const ACTIVITIES: &'static [&'static str] = &[
        ReportStep::NAME,
        CheckMigration::NAME,
        MarkMigrating::NAME,
        ClaimTarget::NAME,
        DestroyTarget::NAME,
        PlanMachine::NAME,
        CreateMachine::NAME,
        BootstrapAgent::NAME,
        RevokeEnrolmentToken::NAME,
        CheckAgent::NAME,
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
    /// The current step, for the failure.
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
        let moving = self.claim_target(node).await?;

        let fenced = self.fence(moving).await?;
        self.install(moving, fenced).await?;

        self.begin(RELEASE_SOURCE).await?;
        self.flow.activity(ReleaseSource, &moving).await
    }

    /// Claims the target: a shared machine, or a new machine of the node's own whose agent is connected.
    async fn claim_target(&mut self, node: NodeRef) -> Result<Moving, FlowError> {
        self.undos.push("release_target", move |flow| async move {
            flow.activity(DestroyTarget, &node).await
        });
        let target = self.flow.activity(ClaimTarget, &node).await?;
        let route = target.route;
        let moving = Moving { node, route };
        if target.is_own {
            self.make_target(moving).await?;
        }
        Ok(moving)
    }

    async fn make_target(&mut self, moving: Moving) -> Result<(), FlowError> {
        let (node, machine) = (moving.node, moving.target());
        self.begin("plan_machine").await?;
        // The plan may contain the machine's join token, so an undo revokes it from here on.
        self.undos
            .push("revoke_enrolment_token", move |flow| async move {
                flow.activity(RevokeEnrolmentToken, &node).await
            });
        self.flow.activity(PlanMachine, &machine).await?;

        self.begin("create_machine").await?;
        self.flow.activity(CreateMachine, &machine).await?;

        self.begin("bootstrap_agent").await?;
        self.flow.activity(BootstrapAgent, &machine).await?;

        self.begin("wait_for_agent").await?;
        wait_for_agent(&self.flow, machine, self.input.limits.agent).await
    }

    /// When this returns, the old process has stopped and the new machine may have the keys.
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
                machine_id: Some(moving.route.target),
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
        let what = "stable health of the moved node";
        until(flow, what, NODE_HEALTH, limits.settled, || async {
            let settled = flow.activity(CheckSettled, &query).await?;
            Ok(settled.is_ready.then_some(()))
        })
        .await
    }

    /// Reports the step. A failed report must not abort a node migration.
    async fn begin(&mut self, step: &'static str) -> Result<(), FlowError> {
        self.step = step;
        let node = self.input.node;
        report(&self.flow, node, step, StepState::Started, String::new()).await;
        self.flow.go_on()
    }

    /// Whether the node has moved although the answer of the last step was lost: then there is no undo.
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

fn no_agent(step: CommandAction) -> FlowError {
    let message = "the target machine lost its agent; migrate the node again";
    FlowError::Activity {
        activity: step.as_str().to_owned(),
        error: ActivityError::permanent("no_agent", message),
    }
}

#[cfg(test)]
mod tests;
