//! Declares the activities that the workflows on one node share: names, inputs, outputs, limits.
//!
//! `host-server` implements them. Each is idempotent by [`crate::ActivityContext::key`] or by checking first, and
//! each undo tolerates that nothing was done. Inputs contain ids, never secrets. A type never changes its meaning: a
//! changed activity gets a new name.

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

/// A node and the operation that shows the work on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRef {
    /// The node.
    pub node_id: NodeId,
    /// The operation whose steps a client watches.
    pub operation_id: OperationId,
}

pub(crate) use activity;

activity! {
    /// Records the progress of an operation. [`StepState::Started`] also closes the previous step.
    ReportStep = "report_step": StepReport => (), Retry::STORE
}

/// The state of a step of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// The operation.
    pub operation_id: OperationId,
    /// A name of the workflow's `STEPS`, or of an undo.
    pub step: String,
    /// Its state.
    pub state: StepState,
    /// The message; may be empty.
    pub message: String,
}

/// States of a [`StepReport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// The step started; the previous step succeeded.
    Started,
    /// The undo of that name ran.
    Undone,
    /// The undo of that name failed for good.
    UndoFailed,
}

activity! {
    /// Validates again what was validated when the node was created: chain profile, inputs, plugins.
    ValidateInputs = "validate_inputs": NodeRef => (), Retry::STORE
}

/// The machine that a node is placed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// The machine.
    pub machine_id: MachineId,
}

activity! {
    /// Chooses the node's machine, the same one at every call, without touching or paying for it.
    ClaimMachine = "claim_machine": NodeRef => Reserved, Retry::STORE
}

activity! {
    /// Requests a plan from the machine provider, and stores it in the operation.
    PlanMachine = "plan_machine": MachineRef => (), Retry::PROVIDER
}

activity! {
    /// Applies exactly the plan: afterwards the machine exists and is reachable.
    CreateMachine = "create_machine": MachineRef => (), Retry::PROVIDER
}

activity! {
    /// Installs an agent on the machine unless one is enrolled.
    BootstrapAgent = "bootstrap_agent": MachineRef => (), Retry::PROVIDER
}

activity! {
    /// Revokes the machine's agent, releases the machine to its provider and removes it from the node. Does nothing
    /// when there is no machine or nothing was done to it.
    DestroyMachine = "destroy_machine": NodeRef => (), Retry::PROVIDER
}

activity! {
    /// Generates and seals the keys that the chain profile declares and the node lacks. The answer contains no key.
    GenerateKeys = "generate_keys": NodeRef => (), Retry::STORE
}

activity! {
    /// Deletes the keys of a node that never ran; does nothing when there are none.
    DeleteKeys = "delete_keys": NodeRef => (), Retry::UNDO
}

activity! {
    /// Copies the node's keys to the backup store, even when there are copies already.
    BackUpKeys = "back_up_keys": NodeRef => (), Retry::UNDO
}

activity! {
    /// Schedules the deletion of the node's keys, which outlive the node by the retention.
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
    /// Revokes the join tokens that were issued for this node; does nothing when there are none.
    RevokeEnrolmentToken = "revoke_enrolment_token": NodeRef => (), Retry::UNDO
}

activity! {
    /// Checks whether the machine's agent is enrolled and connected.
    CheckAgent = "check_agent": MachineRef => Ready, Retry::STORE
}

activity! {
    /// Checks whether the node was ever `healthy` since its provisioning.
    CheckNodeHealth = "check_node_health": NodeRef => Ready, Retry::STORE
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Whether it holds.
    pub is_ready: bool,
}

activity! {
    /// Queues a command for the node's agent under the given id, unless it is queued already.
    SendCommand = "send_command": CommandRequest => Sent, Retry::STORE
}

/// A command to the agent of a node; `host-server` adds the recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRequest {
    /// The node and the operation.
    #[serde(flatten)]
    pub node: NodeRef,
    /// The id of the command, the same in every call of the step.
    pub command_id: CommandId,
    /// What the agent does.
    pub action: CommandAction,
    /// How long the agent may take, from when the command is queued.
    #[serde(with = "duration_text")]
    pub limit: Duration,
    /// The mailbox of the calling workflow for the message that the command ended.
    pub mailbox: String,
    /// The machine whose agent executes it; by default the one that the node is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<MachineId>,
}

/// What an agent does for a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandAction {
    /// Create the node's directory and reserve its ports.
    Prepare,
    /// Run the recipe.
    Install,
    /// Stop the node's processes.
    Stop,
    /// Stop the processes and remove the directory, ports and packages.
    Uninstall,
}

impl CommandAction {
    /// The name of the action in steps and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Install => "install",
            Self::Stop => "stop",
            Self::Uninstall => "uninstall",
        }
    }
}

/// The result of [`SendCommand`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// The command is queued, or the agent has it already.
    Queued,
    /// The node has no machine, or its machine never had an agent, so nothing of the node is on a machine.
    NoAgent,
}

activity! {
    /// Reads the state of a command.
    CommandStatus = "command_status": CommandRef => CommandState, Retry::STORE
}

/// A sent command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRef {
    /// The command.
    pub command_id: CommandId,
}

/// The state of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CommandState {
    /// Queued, delivered or running.
    Waiting,
    /// Done.
    Succeeded,
    /// Failed, timed out or cancelled; the agent undid its work.
    Failed {
        /// The recipe's step that failed.
        step: String,
        /// What went wrong and what to do next.
        error: String,
        /// The last lines that the step printed.
        output: String,
    },
    /// Failed, and the agent could not undo its work.
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
    /// Withdraws a command unless an agent has it.
    WithdrawCommand = "withdraw_command": CommandRef => (), Retry::STORE
}

activity! {
    /// Moves the node to `syncing`, from which on the host observes and judges it.
    MarkSyncing = "mark_syncing": NodeRef => (), Retry::STORE
}

activity! {
    /// Closes the operation as succeeded.
    FinishOperation = "finish": NodeRef => (), Retry::STORE
}

activity! {
    /// Moves the node to `failed` from any state (through `terminating` where the state machine requires it), closes
    /// the operation as failed with the step and its output, and raises an incident, a critical one when there are
    /// leftovers.
    MarkFailed = "mark_failed": FailedNode => (), Retry::UNDO
}

activity! {
    /// Closes the operation as failed with the step and its output; the node's state stays.
    FailOperation = "fail_operation": FailedNode => (), Retry::UNDO
}

/// A node whose workflow failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedNode {
    /// The node and the operation.
    #[serde(flatten)]
    pub node: NodeRef,
    /// The failure.
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
