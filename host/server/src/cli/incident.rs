//! `bellwether incident`: what people are told about.

use clap::{Args, Subcommand};
use serde_json::Value;
use uuid::Uuid;

use super::Session;
use super::client::typed;
use super::error::CliError;
use super::output::{self, ago, plain, word};
use crate::api::{IncidentDetails, IncidentView};

/// What to do with incidents.
#[derive(Debug, Subcommand)]
pub(crate) enum IncidentCommand {
    /// Lists incidents that are not resolved.
    List(ListArgs),
    /// Shows an incident with its history and messages.
    Get {
        /// The incident.
        id: Uuid,
    },
    /// Takes an incident, so that it does not escalate.
    Ack {
        /// The incident.
        id: Uuid,
    },
    /// Declares an incident to be over.
    Resolve {
        /// The incident.
        id: Uuid,
    },
}

/// Which incidents.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Resolved ones too.
    #[arg(long)]
    all: bool,
    /// Of one node, by its id.
    #[arg(long)]
    node: Option<Uuid>,
}

pub(crate) async fn run(command: IncidentCommand, session: &Session) -> Result<(), CliError> {
    match command {
        IncidentCommand::List(args) => list(args, session).await,
        IncidentCommand::Get { id } => get(id, session).await,
        IncidentCommand::Ack { id } => act(id, "acknowledge", session).await,
        IncidentCommand::Resolve { id } => act(id, "resolve", session).await,
    }
}

async fn list(args: ListArgs, session: &Session) -> Result<(), CliError> {
    let mut query = Vec::new();
    if !args.all {
        query.push(("unresolved", "true".to_owned()));
    }
    query.extend(args.node.map(|node| ("node", node.to_string())));
    let value = session.client()?.list("/api/v1/incidents", &query).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let incidents: Vec<IncidentView> = typed(value)?;
    let mut table = output::table(&[
        "severity", "state", "category", "title", "seen", "age", "id",
    ]);
    for incident in incidents {
        table.add_row([
            output::state(&word(incident.severity)),
            output::state(&word(incident.state)),
            incident.category.as_str().into(),
            plain(&incident.title).into(),
            incident.occurrences.to_string().into(),
            ago(incident.opened_at).into(),
            incident.id.to_string().into(),
        ]);
    }
    output::show(&table, "There is no open incident.");
    Ok(())
}

async fn get(id: Uuid, session: &Session) -> Result<(), CliError> {
    let value = session
        .client()?
        .get(&format!("/api/v1/incidents/{id}"))
        .await?;
    if session.is_json() {
        return output::json(&value);
    }
    let details: IncidentDetails = typed(value)?;
    headline(&details.incident);
    for reason in &details.incident.reasons {
        output::say(&format!("  {}: {}", reason.code, plain(&reason.message)));
    }
    let mut table = output::table(&["at", "event", "by", "message"]);
    for row in &details.history {
        let (event, at) = (word(row.event), row.at.to_string());
        table.add_row([at, event, plain(&row.actor), plain(&row.message)]);
    }
    for sent in &details.notifications {
        let what = format!("{} message to {}", word(sent.status), sent.receiver);
        let outcome = sent.outcome.clone().unwrap_or_default();
        table.add_row([
            sent.due_at.to_string(),
            what,
            sent.route.clone(),
            plain(&format!("{} {outcome}", word(sent.state))),
        ]);
    }
    output::show(&table, "It has no history.");
    Ok(())
}

async fn act(id: Uuid, verb: &str, session: &Session) -> Result<(), CliError> {
    let value: Value = session
        .client()?
        .post(&format!("/api/v1/incidents/{id}/{verb}"), None)
        .await?;
    if session.is_json() {
        return output::json(&value);
    }
    headline(&typed(value)?);
    Ok(())
}

fn headline(incident: &IncidentView) {
    let (severity, state) = (word(incident.severity), word(incident.state));
    output::say(&format!(
        "{} ({severity}, {state}, {})",
        plain(&incident.title),
        incident.category
    ));
}
