//! The activities that workflows on one node share: names, inputs, outputs, limits. The shell implements them.
//!
//! Every one is idempotent by [`crate::ActivityContext::key`], or by looking first; every undo tolerates that nothing
//! was done. Inputs hold ids, never secrets. A type here never changes its meaning: a changed one is a new activity.

use std::time::Duration;

use host_domain::ids::{CommandId, MachineId, NodeId, OperationId};
use host_domain::time::duration_text;
use serde::{Deserialize, Serialize};

use crate::activity::Activity;
use crate::error::Failure;
use crate::retry::Retry;

macro_rules! activity {
    ($(#[$doc:meta])* $name:ident = $text:literal: $input:ty => $output:ty, $retry:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Activity for $name {
            const NAME: &'static str = $text;
            const RETRY: Retry = $retry;
            type Input = $input;
            type Output = $output;
        }
    };
}

/// The node that is worked on, and the operation that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRef {
    /// The node.
    pub node_id: NodeId,
    /// The operation whose steps a client watches.
    pub operation_id: OperationId,
}

pub(crate) use activity;

activity! {
    /// Records how far an operation is. Called with [`StepState::Started`] it also closes the step before.
    ReportStep = "report_step": StepReport => (), Retry::STORE
}

/// How a step of an operation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// The operation.
    pub operation_id: OperationId,
    /// A name of the workflow's `STEPS`, or of an undo.
    pub step: String,
    /// How it stands.
    pub state: StepState,
    /// What there is to say; empty when nothing.
    pub message: String,
}

/// States of a [`StepReport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// The step began; the one before it succeeded.
    Started,
    /// The undo of that name ran.
    Undone,
    /// The undo of that name failed for good.
    UndoFailed,
}

activity! {
    /// Checks once more what was checked when the node was created: profile, inputs, plugins still there.
    ValidateInputs = "validate_inputs": NodeRef => (), Retry::STORE
}

/// The machine that a node got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// The machine.
    pub machine_id: MachineId,
}

activity! {
    /// Says which machine the node gets, the same one at every call. Nothing is touched or paid for yet.
    ClaimMachine = "claim_machine": NodeRef => Reserved, Retry::STORE
}

activity! {
    /// Has the provider say what it is going to do, and keeps that on the operation.
    PlanMachine = "plan_machine": MachineRef => (), Retry::PROVIDER
}

activity! {
    /// Does what was planned and nothing else: afterwards the machine is there and can be reached.
    CreateMachine = "create_machine": MachineRef => (), Retry::PROVIDER
}

activity! {
    /// Puts an agent on the machine that enrols by itself; done already where one is enrolled.
    BootstrapAgent = "bootstrap_agent": MachineRef => (), Retry::PROVIDER
}

activity! {
    /// Cuts the machine's agent off, gives the machine back to its provider and takes it away from the node. Done already
    /// when there is none, or when nothing was done to it.
    DestroyMachine = "destroy_machine": NodeRef => (), Retry::PROVIDER
}

activity! {
    /// Makes the keys that the chain's profile declares and the node does not have yet, sealed. No key is in the answer.
    GenerateKeys = "generate_keys": NodeRef => (), Retry::STORE
}

activity! {
    /// Deletes the node's keys at once: it never ran. Done already when there are none.
    DeleteKeys = "delete_keys": NodeRef => (), Retry::UNDO
}

activity! {
    /// Copies the node's keys once more to where copies are kept, whether there are copies already or not.
    BackUpKeys = "back_up_keys": NodeRef => (), Retry::UNDO
}

activity! {
    /// Says from when on the node's keys are deleted: they outlive it for the retention.
    RetireKeys = "retire_keys": NodeRef => (), Retry::UNDO
}

/// A node's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRef {
    /// The node and the operation.
    #[serde(flatten)]
    pub node: NodeRef,
    /// The machine.
    pub machine_id: MachineId,
}

activity! {
    /// Makes the tokens that were issued for this node useless; done already when there are none.
    RevokeEnrolmentToken = "revoke_enrolment_token": NodeRef => (), Retry::UNDO
}

activity! {
    /// Says whether the machine's agent is enrolled and connected.
    CheckAgent = "check_agent": MachineRef => Ready, Retry::STORE
}

activity! {
    /// Says whether the node was once `healthy` since it was provisioned.
    CheckNodeHealth = "check_node_health": NodeRef => Ready, Retry::STORE
}

/// Whether what a workflow waits for is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Whether it is.
    pub is_ready: bool,
}

activity! {
    /// Queues a command for the node's agent under the given id; one that is queued already is left as it is.
    SendCommand = "send_command": CommandRequest => Sent, Retry::STORE
}

/// A command to the agent of a node. What the recipe says is put in by the shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRequest {
    /// The node and the operation.
    #[serde(flatten)]
    pub node: NodeRef,
    /// The id of the command, the same at every call of the step.
    pub command_id: CommandId,
    /// What the agent does.
    pub action: CommandAction,
    /// How long the agent may take, from when the command is queued.
    #[serde(with = "duration_text")]
    pub limit: Duration,
    /// The mailbox of the calling workflow that is told when the command ended.
    pub mailbox: String,
    /// Whose agent does it; absent: that of the machine which the node is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<MachineId>,
}

/// What an agent does for a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandAction {
    /// Makes the node's folder and reserves its ports.
    Prepare,
    /// Runs the recipe.
    Install,
    /// Stops the node's processes.
    Stop,
    /// Stops the processes and removes folder, ports and packages.
    Uninstall,
}

impl CommandAction {
    /// The name of the step and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Install => "install",
            Self::Stop => "stop",
            Self::Uninstall => "uninstall",
        }
    }
}

/// What became of a [`SendCommand`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// The command waits for the agent, or went on from there.
    Queued,
    /// The node has no machine, or its machine never had an agent: nothing of the node can be there.
    NoAgent,
}

activity! {
    /// Says how a command stands.
    CommandStatus = "command_status": CommandRef => CommandState, Retry::STORE
}

/// A sent command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRef {
    /// The command.
    pub command_id: CommandId,
}

/// How a command stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CommandState {
    /// Queued, delivered or running.
    Waiting,
    /// Done.
    Succeeded,
    /// Failed, timed out or cancelled; the agent undid what it had done.
    Failed {
        /// The recipe's step that failed.
        step: String,
        /// What went wrong and what to do next.
        error: String,
        /// The last lines that the step printed.
        output: String,
    },
    /// Failed, and the agent could not undo what it had done.
    Stuck {
        /// The recipe's step that failed.
        step: String,
        /// What went wrong and what to do next.
        error: String,
        /// The last lines that the step printed.
        output: String,
    },
}

activity! {
    /// Takes a command back that no agent has yet; leaves every other one alone.
    WithdrawCommand = "withdraw_command": CommandRef => (), Retry::STORE
}

activity! {
    /// Moves the node to `syncing`, from which on it is observed and judged.
    MarkSyncing = "mark_syncing": NodeRef => (), Retry::STORE
}

activity! {
    /// Closes the operation as succeeded.
    FinishOperation = "finish": NodeRef => (), Retry::STORE
}

activity! {
    /// Moves the node to `failed` from whatever state it is in (by `terminating` where the table asks for it), closes
    /// the operation as failed with the step and its output, and raises an incident; a critical one for leftovers.
    MarkFailed = "mark_failed": FailedNode => (), Retry::UNDO
}

activity! {
    /// Closes the operation as failed with the step and its output; the node stays as it is.
    FailOperation = "fail_operation": FailedNode => (), Retry::UNDO
}

/// A node whose workflow failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedNode {
    /// The node and the operation.
    #[serde(flatten)]
    pub node: NodeRef,
    /// How.
    pub failure: Failure,
}

activity! {
    /// Moves the node to `terminating`.
    MarkTerminating = "mark_terminating": NodeRef => (), Retry::STORE
}

activity! {
    /// Moves the node to `terminated` and closes the operation as succeeded.
    MarkTerminated = "mark_terminated": NodeRef => (), Retry::UNDO
}
