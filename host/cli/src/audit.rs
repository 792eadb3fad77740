//! `bellwether audit`: who did what, to which object, for administrators.

use clap::{Args, Subcommand};
use host_wire::{AuditEntryView, AuditQuery};
use jiff::Timestamp;

use super::Session;
use super::client::typed;
use super::error::CliError;
use super::output::{self, plain};

/// Commands on the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List entries of the audit log, newest first
    List(ListArgs),
}

/// Filters of the audit log.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only what this actor did: the name of an API key, `host`, or `agent:` and an agent's id
    #[arg(long)]
    actor: Option<String>,
    /// Only this action, such as `terminate_node`
    #[arg(long)]
    action: Option<String>,
    /// Only this object, such as `node/ID`, or this kind of object, such as `node`
    #[arg(long)]
    object: Option<String>,
    /// Only from this time on, such as `2026-11-23T20:00:00Z`
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
}

pub(crate) async fn run(command: AuditCommand, session: &Session) -> Result<(), CliError> {
    match command {
        AuditCommand::List(args) => list(args, session).await,
    }
}

async fn list(args: ListArgs, session: &Session) -> Result<(), CliError> {
    let filter = AuditQuery {
        actor: args.actor,
        action: args.action,
        object: args.object,
        since: args.since,
        until: args.until,
    };
    let path = "/api/v1/admin/audit";
    let value = session.client()?.list(path, &filter).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let entries: Vec<AuditEntryView> = typed(value)?;
    let mut table = output::table(&["at", "actor", "action", "object", "request"]);
    for entry in entries {
        table.add_row([
            entry.at.to_string(),
            plain(&entry.actor),
            plain(&entry.action),
            plain(&entry.object),
            plain(&entry.request_id.unwrap_or_default()),
        ]);
    }
    output::show(&table, "The audit log has no such entries.");
    Ok(())
}
