//! `bellwether dead-letter`: transitions that could not be handled, for administrators.

use clap::Subcommand;
use uuid::Uuid;

use super::Session;
use super::client::typed;
use super::error::CliError;
use super::output::{self, ago, plain};
use crate::api::DeadLetterView;

/// What to do with transitions that were put aside.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterCommand {
    /// Lists them.
    List,
    /// Puts one back to be handled.
    Requeue {
        /// Its id.
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
    let value = session
        .client()?
        .list("/api/v1/admin/dead-letters", &[])
        .await?;
    if session.is_json() {
        return output::json(&value);
    }
    let letters: Vec<DeadLetterView> = typed(value)?;
    let mut table = output::table(&["node", "dimension", "age", "tries", "error", "id"]);
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
    output::show(&table, "Nothing was put aside.");
    Ok(())
}

async fn requeue(id: Uuid, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/admin/dead-letters/{id}/requeue");
    session.client()?.post(&path, None).await?;
    if !session.is_json() {
        output::say(
            "It is tried anew; if it fails ten times more, `bellwether dead-letter list` shows it again.",
        );
    }
    Ok(())
}
