//! `bellwether operation`: shows and cancels operations.

use std::time::Duration;

use clap::Subcommand;
use host_wire::{OperationState, OperationView, StepState};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use uuid::Uuid;

use super::Session;
use super::client::typed;
use super::error::CliError;
use super::output::{self, plain, plain_lines, word};

/// Commands on operations.
#[derive(Debug, Subcommand)]
pub enum OperationCommand {
    /// Show an operation with its steps
    Get {
        /// Id of the operation
        id: Uuid,
        /// Wait for the end of the operation
        #[arg(long)]
        wait: bool,
    },
    /// Cancel an operation and undo its finished steps
    Cancel {
        /// Id of the operation
        id: Uuid,
    },
}

pub(crate) async fn run(command: OperationCommand, session: &Session) -> Result<(), CliError> {
    match command {
        OperationCommand::Get { id, wait: true } => follow(session, id).await,
        OperationCommand::Get { id, wait: false } => {
            let path = format!("/api/v1/operations/{id}");
            show(session, session.client()?.get(&path).await?)
        }
        OperationCommand::Cancel { id } => {
            let path = format!("/api/v1/operations/{id}/cancel");
            show(session, session.client()?.post_empty(&path).await?)
        }
    }
}

fn show(session: &Session, value: Value) -> Result<(), CliError> {
    if session.is_json() {
        return output::json(&value);
    }
    let operation: OperationView = typed(value)?;
    output::say(&format!(
        "{} {} of node {}: {:.0} %",
        word(operation.kind),
        word(operation.state),
        operation.node_id,
        operation.progress * 100.0
    ));
    let mut table = output::table(&["step", "state", "message"]);
    for step in &operation.steps {
        table.add_row([
            step.name.as_str().into(),
            output::state(&word(step.state)),
            plain(&step.message).into(),
        ]);
    }
    output::show(&table, "The operation has no steps yet.");
    for step in operation
        .steps
        .iter()
        .filter(|step| !step.output.is_empty())
    {
        output::say(&format!("{}:\n{}", step.name, plain_lines(&step.output)));
    }
    if let Some(error) = &operation.error {
        output::say(&format!("error: {}", plain(error)));
    }
    Ok(())
}

/// Shows progress until the operation ends; a failed operation is a failed command.
pub(crate) async fn follow(session: &Session, id: Uuid) -> Result<(), CliError> {
    let (value, operation) = until_over(session, id).await?;
    if session.is_json() {
        output::json(&value)?;
    }
    match operation.state {
        OperationState::Succeeded => Ok(()),
        OperationState::Failed
        | OperationState::Cancelled
        | OperationState::Running
        | OperationState::Undoing => Err(failure(&operation)),
    }
}

/// Shows progress until the operation ends in any state.
pub(crate) async fn until_over(
    session: &Session,
    id: Uuid,
) -> Result<(Value, OperationView), CliError> {
    let bar = progress_bar(session);
    let client = session.client()?;
    let followed = client
        .follow_operation(id, |operation| draw(&bar, operation))
        .await;
    bar.finish_and_clear();
    followed
}

/// The error of a command whose operation did not succeed.
pub(crate) fn failure(operation: &OperationView) -> CliError {
    let error = operation
        .error
        .as_deref()
        .unwrap_or("the host gave no reason");
    let (id, state) = (operation.id, word(operation.state));
    CliError::Failed(format!("operation {id} is `{state}`: {}", plain(error)))
}

fn progress_bar(session: &Session) -> ProgressBar {
    if session.is_json() {
        return ProgressBar::hidden();
    }
    // Drawn on standard error, and on a terminal only.
    let bar = ProgressBar::new(1_000);
    let style = ProgressStyle::with_template("{spinner} [{bar:30}] {percent:>3} % {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 1,000"
)]
fn draw(bar: &ProgressBar, operation: &OperationView) {
    bar.set_position((operation.progress.clamp(0.0, 1.0) * 1_000.0) as u64);
    let running = operation
        .steps
        .iter()
        .find(|step| step.state == StepState::Running);
    if let Some(step) = running {
        bar.set_message(plain(&format!("{} {}", step.name, step.message)));
    }
}
