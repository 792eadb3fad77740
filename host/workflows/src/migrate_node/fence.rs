//! The fence between the two machines of a node migration: a machine gets the node only when the other one can't run
//! it.

use std::time::Duration;

use super::MigrateLimits;
use crate::command::{At, Done, command_id, run_undo_command_at};
use crate::error::FlowError;
use crate::flow::Flow;
use crate::migrate_activities::{CheckFence, FenceTarget, Fenced, Moving, RestoreSource};
use crate::node_activities::{
    CommandAction, CommandRef, CommandRequest, CommandState, CommandStatus, SendCommand, Sent,
    WithdrawCommand,
};
use crate::wait::until;

/// The mailbox of waits for a lease; nobody sends to it, because a lease expires by time alone.
const FENCE: &str = "fence";

/// Returns when the source agent reports that the processes have stopped, or when their lease has expired.
pub(super) async fn stop_source(
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
        machine_id: Some(moving.route.source),
    };
    let is_sent = flow.activity(SendCommand, &request).await? == Sent::Queued;
    let holds_keys = moving.route.holds_keys;
    let limit = if holds_keys {
        limits.fence
    } else {
        limits.stop
    };
    let what = "the stop of the old process";
    let ended = until(flow, what, &request.mailbox, limit, || async {
        // Only `Succeeded` is a proof: a revoked agent, or one that failed to stop the processes, proves nothing.
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
        // Without keys two processes do no harm, and an unreachable agent is the reason of most node migrations.
        Err(FlowError::TimedOut { .. }) if !holds_keys => Ok(()),
        Err(error) => Err(error),
    }
}

/// Fences the target machine like the source, and assigns the node to the source again.
pub(super) async fn go_back(
    flow: &Flow,
    moving: Moving,
    limits: &MigrateLimits,
) -> Result<(), FlowError> {
    let fenced = flow.activity(FenceTarget, &moving).await?;
    let at = At {
        machine_id: Some(moving.route.target),
        step: &format!("undo-uninstall-{}", fenced.at),
    };
    let uninstall = CommandAction::Uninstall;
    let removed = run_undo_command_at(flow, moving.node, at, uninstall, limits.uninstall).await;
    if removed != Ok(Done::Succeeded) && moving.route.holds_keys {
        wait_for_fence(flow, moving, limits.fence).await?;
    }
    flow.activity(RestoreSource, &moving).await?;
    // The node is on its source machine again; a failed removal names what the target may still have.
    removed.map(drop)
}

async fn wait_for_fence(flow: &Flow, moving: Moving, limit: Duration) -> Result<(), FlowError> {
    until(
        flow,
        "the expiry of the last lease",
        FENCE,
        limit,
        || async {
            let over = flow.activity(CheckFence, &moving).await?;
            Ok(over.is_ready.then_some(()))
        },
    )
    .await
}
