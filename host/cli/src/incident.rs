//! `bellwether incident`: incidents, their history and their notifications.

use clap::{Args, Subcommand};
use host_wire::{IncidentDetails, IncidentView, IncidentsQuery};
use uuid::Uuid;

use super::Session;
use super::client::typed;
use super::error::CliError;
use super::output::{self, ago, plain, word};

/// Commands on incidents.
#[derive(Debug, Subcommand)]
pub enum IncidentCommand {
    /// List incidents that are not resolved
    List(ListArgs),
    /// Show an incident with its history and notifications
    Get {
        /// Id of the incident
        id: Uuid,
    },
    /// Acknowledge an incident, so that it does not escalate
    #[command(visible_alias = "ack")]
    Acknowledge {
        /// Id of the incident
        id: Uuid,
    },
    /// Resolve an incident
    Resolve {
        /// Id of the incident
        id: Uuid,
    },
}

/// Filters of incidents.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Include resolved incidents
    #[arg(long)]
    all: bool,
    /// Only incidents of the node with this id
    #[arg(long)]
    node: Option<Uuid>,
}

pub(crate) async fn run(command: IncidentCommand, session: &Session) -> Result<(), CliError> {
    match command {
        IncidentCommand::List(args) => list(args, session).await,
        IncidentCommand::Get { id } => get(id, session).await,
        IncidentCommand::Acknowledge { id } => act(id, "acknowledge", session).await,
        IncidentCommand::Resolve { id } => act(id, "resolve", session).await,
    }
}

async fn list(args: ListArgs, session: &Session) -> Result<(), CliError> {
    let filter = IncidentsQuery {
        unresolved: (!args.all).then_some(true),
        node: args.node,
        ..IncidentsQuery::default()
    };
    let value = session.client()?.list("/api/v1/incidents", &filter).await?;
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
    output::show(&table, "No incident is open.");
    Ok(())
}

async fn get(id: Uuid, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/incidents/{id}");
    let value = session.client()?.get(&path).await?;
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
        let what = format!("{} notification to {}", word(sent.status), sent.receiver);
        let outcome = sent.outcome.clone().unwrap_or_default();
        table.add_row([
            sent.due_at.to_string(),
            what,
            sent.route.clone(),
            plain(&format!("{} {outcome}", word(sent.state))),
        ]);
    }
    output::show(&table, "The incident has no history.");
    Ok(())
}

async fn act(id: Uuid, verb: &str, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/incidents/{id}/{verb}");
    let value = session.client()?.post_empty(&path).await?;
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
