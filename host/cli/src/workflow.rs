//! `bellwether workflow`: the workflows of the engine, for administrators.

use clap::Subcommand;
use host_wire::{
    HistoryView, OperationView, WorkflowDetailsView, WorkflowState, WorkflowView, WorkflowsQuery,
    parse_word,
};

use super::Session;
use super::client::{NoFilter, segment, typed};
use super::error::CliError;
use super::output::{self, ago, plain, word};

/// Commands on workflows.
#[derive(Debug, Subcommand)]
pub enum WorkflowCommand {
    /// List workflows
    List {
        /// Only workflows in this state: `running`, `completed` or `failed`
        #[arg(long, value_parser = parse_word::<WorkflowState>)]
        state: Option<WorkflowState>,
    },
    /// Show a workflow and its operation
    Get {
        /// Id of the workflow, such as `provision-<node id>`
        id: String,
    },
    /// List the history of a workflow
    History {
        /// Id of the workflow
        id: String,
    },
    /// Retry the work of a workflow, starting from the current state of its node
    Retry {
        /// Id of the workflow
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

async fn list(state: Option<WorkflowState>, session: &Session) -> Result<(), CliError> {
    let path = "/api/v1/admin/workflows";
    let filter = WorkflowsQuery { state };
    let value = session.client()?.list(path, &filter).await?;
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
    output::show(&table, "There are no workflows.");
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
        None => output::say("It has no operation."),
    }
    Ok(())
}

async fn history(id: &str, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/admin/workflows/{}/history", segment(id));
    let value = session.client()?.list(&path, &NoFilter {}).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let entries: Vec<HistoryView> = typed(value)?;
    let mut table = output::table(&["sequence", "age", "event", "detail"]);
    for entry in entries {
        table.add_row([
            format!("{}.{}", entry.execution, entry.sequence),
            ago(entry.at),
            plain(&entry.event),
            plain(&entry.detail),
        ]);
    }
    output::show(&table, "The workflow has no history yet.");
    Ok(())
}

async fn retry(id: &str, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/admin/workflows/{}/retry", segment(id));
    let value = session.client()?.post_empty(&path).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let operation: OperationView = typed(value)?;
    output::say(&format!(
        "The work is restarted; follow the operation with `bellwether operation get {} --wait`.",
        operation.id
    ));
    Ok(())
}
