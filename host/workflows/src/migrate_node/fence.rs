//! The fence between two machines, in both directions: whoever is to have the node waits until the other can't run it any more.

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

/// Nobody sends to it: the end of a lease is only a matter of time.
const FENCE: &str = "fence";

/// Comes back when the old agent says that it has stopped the processes, or when they can't run any longer without it.
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

/// Takes the node back from the new machine, as surely as it was taken from the old one, and gives it back.
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
    // It is where it was; what the new machine may still have of it is named.
    removed.map(drop)
}

async fn wait_for_fence(flow: &Flow, moving: Moving, limit: Duration) -> Result<(), FlowError> {
    until(flow, "the end of the last lease", FENCE, limit, || async {
        let over = flow.activity(CheckFence, &moving).await?;
        Ok(over.is_ready.then_some(()))
    })
    .await
}
