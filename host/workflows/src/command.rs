//! Runs an agent command as a workflow step: queues it, waits for its end, and withdraws it when the workflow stops
//! waiting.

use std::time::Duration;

use host_domain::ids::{CommandId, MachineId};

use crate::error::{ActivityError, FlowError};
use crate::flow::Flow;
use crate::node_activities::{
    CommandAction, CommandRef, CommandRequest, CommandState, CommandStatus, NodeRef, SendCommand,
    Sent, WithdrawCommand,
};
use crate::wait::{FIRST_PAUSE, until};

/// How much longer than the agent's limit the workflow waits, so that it sees the agent's own result.
const GRACE: Duration = Duration::from_secs(30);
/// How many times an undo sends its command.
const UNDO_TRIES: u32 = 3;
/// The pause between two of these attempts.
const UNDO_PAUSE: Duration = Duration::from_secs(10);

/// The result of a command that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// The agent executed the command.
    Succeeded,
    /// The machine never had an agent, so nothing of the node is on it.
    NoAgent,
}

/// The machine that executes a command, and the command's name within the workflow.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    /// The machine; by default the one that the node is on.
    pub(crate) machine_id: Option<MachineId>,
    /// Commands with the same name are the same command.
    pub(crate) step: &'a str,
}

/// Sends a command to the node's machine and waits for its end. `step` names the command within the workflow.
pub(crate) async fn run_command(
    flow: &Flow,
    node: NodeRef,
    step: &str,
    action: CommandAction,
    limit: Duration,
) -> Result<Done, FlowError> {
    let at = At {
        machine_id: None,
        step,
    };
    run_command_at(flow, node, at, action, limit).await
}

/// Sends a command to a machine and waits for its end.
pub(crate) async fn run_command_at(
    flow: &Flow,
    node: NodeRef,
    At { machine_id, step }: At<'_>,
    action: CommandAction,
    limit: Duration,
) -> Result<Done, FlowError> {
    let command_id = command_id(&flow.id(), step);
    let mailbox = format!("command:{step}");
    let request = CommandRequest {
        node,
        command_id,
        action,
        limit,
        mailbox: mailbox.clone(),
        machine_id,
    };
    if flow.activity(SendCommand, &request).await? == Sent::NoAgent {
        return Ok(Done::NoAgent);
    }
    let command = CommandRef { command_id };
    let ended = wait_for_end(
        flow,
        &format!("the end of the command `{step}`"),
        &mailbox,
        limit,
        &command,
    )
    .await;
    match ended {
        Ok(CommandState::Succeeded) => Ok(Done::Succeeded),
        Ok(CommandState::Failed {
            step,
            error,
            output,
        }) => Err(failed(action, "command_failed", &step, &error, output)),
        Ok(CommandState::Stuck {
            step,
            error,
            output,
        }) => Err(failed(action, "command_stuck", &step, &error, output)),
        // `wait_for_end` never returns a waiting command.
        Ok(CommandState::Waiting)
        | Err(FlowError::TimedOut { .. } | FlowError::Cancelled { .. }) => {
            flow.shielded().activity(WithdrawCommand, &command).await?;
            flow.go_on()?;
            Err(FlowError::TimedOut {
                what: format!("the end of the command `{step}`"),
                limit,
            })
        }
        Err(error) => Err(error),
    }
}

/// Sends an undo's command to the node's machine, and retries it when it fails.
pub(crate) async fn run_undo_command(
    flow: &Flow,
    node: NodeRef,
    action: CommandAction,
    limit: Duration,
) -> Result<Done, FlowError> {
    let at = At {
        machine_id: None,
        step: &format!("undo-{}", action.as_str()),
    };
    run_undo_command_at(flow, node, at, action, limit).await
}

/// Sends an undo's command to a machine, and retries it when it fails.
pub(crate) async fn run_undo_command_at(
    flow: &Flow,
    node: NodeRef,
    at: At<'_>,
    action: CommandAction,
    limit: Duration,
) -> Result<Done, FlowError> {
    let mut number = 1;
    loop {
        let step = &format!("{}-{number}", at.step);
        let at = At { step, ..at };
        match run_command_at(flow, node, at, action, limit).await {
            Err(_) if number < UNDO_TRIES => flow.timer(UNDO_PAUSE).await?,
            outcome => return outcome,
        }
        number += 1;
    }
}

async fn wait_for_end(
    flow: &Flow,
    what: &str,
    mailbox: &str,
    limit: Duration,
    command: &CommandRef,
) -> Result<CommandState, FlowError> {
    // Most commands take a moment, so the first check waits for the message or the first pause.
    flow.nudge(mailbox, FIRST_PAUSE.min(limit)).await?;
    until(flow, what, mailbox, limit + GRACE, || async {
        let state = flow.activity(CommandStatus, command).await?;
        Ok(Some(state).filter(|state| *state != CommandState::Waiting))
    })
    .await
}

fn failed(action: CommandAction, code: &str, step: &str, error: &str, output: String) -> FlowError {
    let message = if step.is_empty() {
        error.to_owned()
    } else {
        format!("recipe step `{step}`: {error}")
    };
    let error = ActivityError::permanent(code, message).with_output(output);
    FlowError::Activity {
        activity: action.as_str().to_owned(),
        error,
    }
}

/// A stable id for a step of a workflow, in every replay and process: FNV-1a of both names, marked as a UUID of
/// version 8.
pub(crate) fn command_id(workflow_id: &str, step: &str) -> CommandId {
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in workflow_id.bytes().chain([b'/']).chain(step.bytes()) {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    let marked = (hash & !(0xf << 76) & !(0x3 << 62)) | (0x8 << 76) | (0x2 << 62);
    CommandId(uuid::Uuid::from_u128(marked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_ids_are_stable_and_distinct() {
        let id = command_id("provision-1", "install");
        assert_eq!(id, command_id("provision-1", "install"));
        assert_ne!(id, command_id("provision-1", "prepare"));
        assert_ne!(id, command_id("provision-2", "install"));
        assert_eq!(id.0.get_version_num(), 8);
        assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
    }
}
