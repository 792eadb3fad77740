//! `bellwether agent`: who runs beside the nodes.

use clap::Subcommand;
use uuid::Uuid;

use super::Session;
use super::client::typed;
use super::error::CliError;
use super::output::{self, ago, plain};
use crate::api::{AgentView, EnrolmentTokenView};

/// What to do with agents.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Lists agents.
    List,
    /// Issues a token by which one agent can enrol, once; it is shown this once.
    Token {
        /// Name of the machine that the agent runs on.
        machine: String,
    },
    /// Cuts an agent off for good.
    Revoke {
        /// The agent.
        id: Uuid,
    },
}

pub(crate) async fn run(command: AgentCommand, session: &Session) -> Result<(), CliError> {
    match command {
        AgentCommand::List => list(session).await,
        AgentCommand::Token { machine } => token(&machine, session).await,
        AgentCommand::Revoke { id } => {
            session
                .client()?
                .post(&format!("/api/v1/agents/{id}/revoke"), None)
                .await?;
            if !session.is_json() {
                output::say(&format!(
                    "Agent {id} is cut off; its certificate is worth nothing now."
                ));
            }
            Ok(())
        }
    }
}

async fn list(session: &Session) -> Result<(), CliError> {
    let value = session.client()?.list("/api/v1/agents", &[]).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let agents: Vec<AgentView> = typed(value)?;
    let mut table = output::table(&["name", "state", "version", "seen", "id"]);
    for agent in agents {
        let state = match (agent.revoked_at, agent.is_connected) {
            (Some(_), _) => "revoked",
            (None, true) => "connected",
            (None, false) => "silent",
        };
        table.add_row([
            plain(&agent.name).into(),
            output::state(state),
            plain(&agent.version).into(),
            agent.last_seen_at.map(ago).unwrap_or_default().into(),
            agent.id.to_string().into(),
        ]);
    }
    output::show(
        &table,
        "No agent has enrolled; `bellwether agent token MACHINE` lets one in.",
    );
    Ok(())
}

async fn token(machine: &str, session: &Session) -> Result<(), CliError> {
    let body = serde_json::json!({ "machine": machine });
    let value = session
        .client()?
        .post("/api/v1/agents/enrolment-tokens", Some(&body))
        .await?;
    if session.is_json() {
        return output::json(&value);
    }
    let issued: EnrolmentTokenView = typed(value)?;
    output::say(&issued.token);
    // The token alone goes to standard output, so that it can be piped into a file.
    eprintln!(
        "For one agent on {}, until {}. It can't be shown again.",
        plain(&issued.machine),
        issued.expires_at
    );
    Ok(())
}
