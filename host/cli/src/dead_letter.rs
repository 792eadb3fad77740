//! `bellwether dead-letter`: transitions that the host could not handle, for administrators.

use clap::Subcommand;
use host_wire::DeadLetterView;
use uuid::Uuid;

use super::Session;
use super::client::{NoFilter, typed};
use super::error::CliError;
use super::output::{self, ago, plain};

/// Commands on dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// List transitions that the host could not handle
    List,
    /// Let the host handle a transition again
    Requeue {
        /// Id of the transition
        id: Uuid,
    },
}

pub(crate) async fn run(command: DeadLetterCommand, session: &Session) -> Result<(), CliError> {
    match command {
        DeadLetterCommand::List => list(session).await,
        DeadLetterCommand::Requeue { id } => requeue(id, session).await,
    }
}

async fn list(session: &Session) -> Result<(), CliError> {
    let path = "/api/v1/admin/dead-letters";
    let value = session.client()?.list(path, &NoFilter {}).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let letters: Vec<DeadLetterView> = typed(value)?;
    let mut table = output::table(&["node", "dimension", "age", "attempts", "error", "id"]);
    for letter in letters {
        table.add_row([
            plain(&letter.node_name),
            letter.dimension,
            ago(letter.at),
            letter.attempts.to_string(),
            plain(&letter.error),
            letter.id.to_string(),
        ]);
    }
    output::show(&table, "There are no dead letters.");
    Ok(())
}

async fn requeue(id: Uuid, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/admin/dead-letters/{id}/requeue");
    session.client()?.post_empty(&path).await?;
    if !session.is_json() {
        output::say(&format!(
            "Transition {id} is requeued. After ten more failures `bellwether dead-letter list` shows it again."
        ));
    }
    Ok(())
}
