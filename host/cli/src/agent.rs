//! `bellwether agent`: the agents on the machines.

use clap::Subcommand;
use host_wire::{AgentView, EnrolmentTokenRequest, EnrolmentTokenView};
use uuid::Uuid;

use super::Session;
use super::client::{NoFilter, typed};
use super::error::CliError;
use super::output::{self, ago, plain};

/// Commands on agents.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// List agents
    List,
    /// Create an enrolment token for one agent; it is shown once
    Token {
        /// Name of the machine that the agent runs on
        machine: String,
    },
    /// Revoke an agent: the host closes its session and rejects its certificate from then on
    Revoke {
        /// Id of the agent
        id: Uuid,
    },
}

pub(crate) async fn run(command: AgentCommand, session: &Session) -> Result<(), CliError> {
    match command {
        AgentCommand::List => list(session).await,
        AgentCommand::Token { machine } => create_token(machine, session).await,
        AgentCommand::Revoke { id } => revoke(id, session).await,
    }
}

async fn list(session: &Session) -> Result<(), CliError> {
    let value = session
        .client()?
        .list("/api/v1/agents", &NoFilter {})
        .await?;
    if session.is_json() {
        return output::json(&value);
    }
    let agents: Vec<AgentView> = typed(value)?;
    let mut table = output::table(&["name", "state", "version", "seen", "id"]);
    for agent in agents {
        let state = match (agent.revoked_at, agent.is_connected) {
            (Some(_), _) => "revoked",
            (None, true) => "connected",
            (None, false) => "disconnected",
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
        "No agent has enrolled; `bellwether agent token MACHINE` creates a token for one.",
    );
    Ok(())
}

async fn create_token(machine: String, session: &Session) -> Result<(), CliError> {
    let request = EnrolmentTokenRequest { machine };
    let path = "/api/v1/agents/enrolment-tokens";
    let value = session.client()?.post(path, &request).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let issued: EnrolmentTokenView = typed(value)?;
    output::say(&issued.token);
    // Standard output has only the token, so that a shell can redirect it into a file.
    eprintln!(
        "One agent on {} can enrol with this token until {}. The host can't show it again.",
        plain(&issued.machine),
        issued.expires_at
    );
    Ok(())
}

async fn revoke(id: Uuid, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/agents/{id}/revoke");
    session.client()?.post_empty(&path).await?;
    if !session.is_json() {
        output::say(&format!(
            "Agent {id} is revoked; the host rejects its certificate."
        ));
    }
    Ok(())
}
