//! Provisions a node: from a row in the database to a healthy node.
//!
//! The workflow registers each undo before its step. After a failure or a cancel anywhere, it undoes all steps and
//! leaves the node `failed` with nothing of it on a machine; the failure names what could not be undone.

use std::time::Duration;

use host_domain::ids::NodeId;
use host_domain::time::duration_text;
use serde::{Deserialize, Serialize};

use crate::activity::Activity;
use crate::command::{Done, run_command, run_undo_command};
use crate::error::{ActivityError, Failure, FlowError, Leftover};
use crate::flow::Flow;
use crate::node_activities::{
    BootstrapAgent, CheckAgent, CheckNodeHealth, ClaimMachine, CommandAction, CommandStatus,
    CreateMachine, DeleteKeys, DestroyMachine, FailedNode, FinishOperation, GenerateKeys,
    MachineRef, MarkFailed, MarkSyncing, NodeRef, PlanMachine, ReportStep, RevokeEnrolmentToken,
    SendCommand, StepReport, StepState, ValidateInputs, WithdrawCommand,
};
use crate::undo::Undos;
use crate::wait::until;
use crate::workflow::Workflow;

/// The steps of the operation in order.
pub const STEPS: &[&str] = &[
    "validate_inputs",
    "claim_machine",
    "generate_keys",
    "plan_machine",
    "create_machine",
    "bootstrap_agent",
    "wait_for_agent",
    "prepare",
    "install",
    "mark_syncing",
    "wait_for_first_healthy",
    "finish",
];

/// The mailbox for messages that the machine's agent is connected.
pub const AGENT_READY: &str = "agent_ready";
/// The mailbox for messages that the node's state changed.
pub const NODE_HEALTH: &str = "node_health";

/// The workflow's id: a repeated request finds the same provisioning.
pub fn workflow_id(node_id: NodeId) -> String {
    format!("provision-{node_id}")
}

/// The input of a provisioning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionInput {
    /// Version of this struct.
    pub version: u16,
    /// The node and its operation.
    #[serde(flatten)]
    pub node: NodeRef,
    /// The time limit of each wait.
    pub limits: ProvisionLimits,
}

impl ProvisionInput {
    /// An input of the current version.
    pub fn new(node: NodeRef, limits: ProvisionLimits) -> Self {
        Self {
            version: 1,
            node,
            limits,
        }
    }
}

/// The time limits of a provisioning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionLimits {
    /// Until the agent is connected.
    #[serde(with = "duration_text")]
    pub agent: Duration,
    /// For preparing the directory and the ports.
    #[serde(with = "duration_text")]
    pub prepare: Duration,
    /// For running the recipe.
    #[serde(with = "duration_text")]
    pub install: Duration,
    /// Until the node is healthy.
    #[serde(with = "duration_text")]
    pub healthy: Duration,
    /// For removing the node in an undo.
    #[serde(with = "duration_text")]
    pub uninstall: Duration,
}

impl Default for ProvisionLimits {
    fn default() -> Self {
        Self {
            agent: Duration::from_mins(10),
            prepare: Duration::from_mins(2),
            install: Duration::from_hours(2),
            healthy: Duration::from_hours(1),
            uninstall: Duration::from_mins(10),
        }
    }
}

/// The provisioning workflow.
pub struct ProvisionNode;

impl Workflow for ProvisionNode {
    const KIND: &'static str = "provision-node";
    const VERSION: &'static str = "1.0.0";
    const ACTIVITIES: &'static [&'static str] = &[
        ReportStep::NAME,
        ValidateInputs::NAME,
        ClaimMachine::NAME,
        PlanMachine::NAME,
        CreateMachine::NAME,
        BootstrapAgent::NAME,
        DestroyMachine::NAME,
        GenerateKeys::NAME,
        DeleteKeys::NAME,
        RevokeEnrolmentToken::NAME,
        CheckAgent::NAME,
        SendCommand::NAME,
        CommandStatus::NAME,
        WithdrawCommand::NAME,
        MarkSyncing::NAME,
        CheckNodeHealth::NAME,
        FinishOperation::NAME,
        MarkFailed::NAME,
    ];
    type Input = ProvisionInput;
    type Output = ();

    async fn run(flow: Flow, input: ProvisionInput) -> Result<(), Failure> {
        let mut run = Run {
            flow,
            input,
            undos: Undos::default(),
            step: STEPS[0],
        };
        match run.forward().await {
            Ok(()) => Ok(()),
            Err(error) => Err(run.unwind(&error).await),
        }
    }
}

struct Run {
    flow: Flow,
    input: ProvisionInput,
    undos: Undos,
    /// The current step, for the failure.
    step: &'static str,
}

impl Run {
    async fn forward(&mut self) -> Result<(), FlowError> {
        let node = self.input.node;
        let limits = self.input.limits;

        self.begin("validate_inputs").await?;
        self.flow.activity(ValidateInputs, &node).await?;

        let machine = self.get_machine(node).await?;

        self.begin("wait_for_agent").await?;
        wait_for_agent(&self.flow, machine, limits.agent).await?;

        self.begin("prepare").await?;
        self.undos.push("uninstall", move |flow| async move {
            run_undo_command(&flow, node, CommandAction::Uninstall, limits.uninstall)
                .await
                .map(drop)
        });
        command(&self.flow, node, CommandAction::Prepare, limits.prepare).await?;

        self.begin("install").await?;
        command(&self.flow, node, CommandAction::Install, limits.install).await?;

        self.begin("mark_syncing").await?;
        self.flow.activity(MarkSyncing, &node).await?;

        self.begin("wait_for_first_healthy").await?;
        let flow = &self.flow;
        until(
            flow,
            "the node's first `healthy` state",
            NODE_HEALTH,
            limits.healthy,
            || async {
                Ok(flow
                    .activity(CheckNodeHealth, &node)
                    .await?
                    .is_ready
                    .then_some(()))
            },
        )
        .await?;

        self.begin("finish").await?;
        self.flow.activity(FinishOperation, &node).await
    }

    /// Gets a machine from the node's machine provider, with an agent that is about to enrol.
    async fn get_machine(&mut self, node: NodeRef) -> Result<MachineRef, FlowError> {
        self.begin("claim_machine").await?;
        self.undos.push("destroy_machine", move |flow| async move {
            flow.activity(DestroyMachine, &node).await
        });
        let machine_id = self.flow.activity(ClaimMachine, &node).await?.machine_id;
        let machine = MachineRef { node, machine_id };

        self.generate_keys(node).await?;

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
        Ok(machine)
    }

    async fn generate_keys(&mut self, node: NodeRef) -> Result<(), FlowError> {
        self.begin("generate_keys").await?;
        self.undos.push("delete_keys", move |flow| async move {
            flow.activity(DeleteKeys, &node).await
        });
        self.flow.activity(GenerateKeys, &node).await
    }

    /// Reports the step. A failed report must not abort a provisioning.
    async fn begin(&mut self, step: &'static str) -> Result<(), FlowError> {
        self.step = step;
        report(
            &self.flow,
            self.input.node,
            step,
            StepState::Started,
            String::new(),
        )
        .await;
        self.flow.go_on()
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
        mark_failed(
            &flow,
            node,
            Failure {
                leftovers,
                ..error.at(self.step)
            },
        )
        .await
    }
}

async fn command(
    flow: &Flow,
    node: NodeRef,
    action: CommandAction,
    limit: Duration,
) -> Result<(), FlowError> {
    match run_command(flow, node, action.as_str(), action, limit).await? {
        Done::Succeeded => Ok(()),
        Done::NoAgent => {
            let message = "the node's machine lost its agent; provision the node again";
            Err(FlowError::Activity {
                activity: action.as_str().to_owned(),
                error: ActivityError::permanent("no_agent", message),
            })
        }
    }
}

/// Returns when the machine's agent is connected.
pub(crate) async fn wait_for_agent(
    flow: &Flow,
    machine: MachineRef,
    limit: Duration,
) -> Result<(), FlowError> {
    until(flow, "the machine's agent", AGENT_READY, limit, || async {
        let agent = flow.activity(CheckAgent, &machine).await?;
        Ok(agent.is_ready.then_some(()))
    })
    .await
}

/// Records a failed workflow, and returns the failure, with one more leftover when the record failed.
pub(crate) async fn mark_failed(flow: &Flow, node: NodeRef, failure: Failure) -> Failure {
    close_failed(flow, MarkFailed, node, failure).await
}

/// Records a failed workflow with the given activity.
pub(crate) async fn close_failed<A>(flow: &Flow, by: A, node: NodeRef, failure: Failure) -> Failure
where
    A: Activity<Input = FailedNode>,
{
    let failed = FailedNode { node, failure };
    let closed = flow.shielded().activity(by, &failed).await;
    let mut failure = failed.failure;
    if let Err(error) = closed {
        failure.leftovers.push(Leftover {
            undo: A::NAME.to_owned(),
            message: error.to_string(),
        });
    }
    failure
}

/// Reports a step of an operation, if possible.
pub(crate) async fn report(
    flow: &Flow,
    node: NodeRef,
    step: &str,
    state: StepState,
    message: String,
) {
    let report = StepReport {
        operation_id: node.operation_id,
        step: step.to_owned(),
        state,
        message,
    };
    // A failed report must not undo a node; the next call sees a cancel.
    drop(flow.activity(ReportStep, &report).await);
}

#[cfg(test)]
mod tests;
