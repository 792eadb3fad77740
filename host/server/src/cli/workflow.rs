//! `bellwether workflow`: what the engine does, for administrators.

use clap::Subcommand;

use super::Session;
use super::client::{segment, typed};
use super::error::CliError;
use super::output::{self, ago, plain, word};
use crate::api::{HistoryView, OperationView, WorkflowDetailsView, WorkflowView};

/// What to do with workflows.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkflowCommand {
    /// Lists workflows.
    List {
        /// In one state: `running`, `completed` or `failed`.
        #[arg(long)]
        state: Option<String>,
    },
    /// Shows a workflow and the operation that it works on.
    Get {
        /// Its id, such as `provision-<node id>`.
        id: String,
    },
    /// Lists what happened in a workflow.
    History {
        /// Its id.
        id: String,
    },
    /// Begins the work of a workflow anew, from what the node is now.
    Retry {
        /// Its id.
        id: String,
    },
}

pub(crate) async fn run(command: WorkflowCommand, session: &Session) -> Result<(), CliError> {
    match command {
        WorkflowCommand::List { state } => list(state, session).await,
        WorkflowCommand::Get { id } => get(&id, session).await,
        WorkflowCommand::History { id } => history(&id, session).await,
        WorkflowCommand::Retry { id } => retry(&id, session).await,
    }
}

async fn list(state: Option<String>, session: &Session) -> Result<(), CliError> {
    let query: Vec<_> = state.map(|state| ("state", state)).into_iter().collect();
    let value = session
        .client()?
        .list("/api/v1/admin/workflows", &query)
        .await?;
    if session.is_json() {
        return output::json(&value);
    }
    let workflows: Vec<WorkflowView> = typed(value)?;
    let mut table = output::table(&["kind", "version", "state", "age", "last event", "id"]);
    for workflow in workflows {
        table.add_row([
            workflow.kind.as_str().into(),
            workflow.version.as_str().into(),
            output::state(&word(workflow.state)),
            ago(workflow.started_at).into(),
            format!("{} ago", ago(workflow.updated_at)).into(),
            plain(&workflow.id).into(),
        ]);
    }
    output::show(&table, "There is no workflow.");
    Ok(())
}

async fn get(id: &str, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/admin/workflows/{}", segment(id));
    let value = session.client()?.get(&path).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let details: WorkflowDetailsView = typed(value)?;
    let workflow = &details.workflow;
    output::say(&format!(
        "{} {} is {}; last event {} ago.",
        plain(&workflow.id),
        workflow.version,
        word(workflow.state),
        ago(workflow.updated_at)
    ));
    match &details.operation {
        Some(operation) => output::say(&format!(
            "It works on node {}; see `bellwether operation get {}`.",
            operation.node_id, operation.id
        )),
        None => output::say("No operation shows it."),
    }
    Ok(())
}

async fn history(id: &str, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/admin/workflows/{}/history", segment(id));
    let value = session.client()?.list(&path, &[]).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let entries: Vec<HistoryView> = typed(value)?;
    let mut table = output::table(&["place", "age", "event", "detail"]);
    for entry in entries {
        table.add_row([
            format!("{}.{}", entry.execution, entry.sequence),
            ago(entry.at),
            plain(&entry.event),
            plain(&entry.detail),
        ]);
    }
    output::show(&table, "Nothing happened in it yet.");
    Ok(())
}

async fn retry(id: &str, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/admin/workflows/{}/retry", segment(id));
    let value = session.client()?.post(&path, None).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let operation: OperationView = typed(value)?;
    output::say(&format!(
        "It has begun anew; follow it with `bellwether operation get {} --wait`.",
        operation.id
    ));
    Ok(())
}
