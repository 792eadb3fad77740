//! `bellwether api-key`: the keys that authenticate people and programs, for administrators.

use clap::{Args, Subcommand};
use host_wire::{
    ApiKeyState, ApiKeyView, ApiKeysQuery, CreateApiKeyRequest, CreatedApiKeyView, parse_word,
};

use super::Session;
use super::client::{segment, typed};
use super::error::CliError;
use super::output::{self, ago, plain, word};

const PATH: &str = "/api/v1/admin/api-keys";

/// Commands on API keys.
#[derive(Debug, Subcommand)]
pub enum ApiKeyCommand {
    /// List API keys, without their tokens
    List {
        /// Only keys in this state: `active`, `expired` or `revoked`
        #[arg(long, value_parser = parse_word::<ApiKeyState>)]
        state: Option<ApiKeyState>,
    },
    /// Create an API key and print its token; the host can't show the token again
    Create(CreateArgs),
    /// Revoke an API key: the host rejects its token from then on
    Revoke {
        /// Id of the key, or name of an active one
        key: String,
    },
}

/// The new key.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the key, which the audit log shows; no other active key may have it
    name: String,
    /// What the key may do, such as `nodes:read`; repeat for further scopes
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<String>,
    /// How long the key is valid, such as `90d`; default: until it is revoked
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,
}

pub(crate) async fn run(command: ApiKeyCommand, session: &Session) -> Result<(), CliError> {
    match command {
        ApiKeyCommand::List { state } => list(state, session).await,
        ApiKeyCommand::Create(args) => create(args, session).await,
        ApiKeyCommand::Revoke { key } => revoke(&key, session).await,
    }
}

async fn list(state: Option<ApiKeyState>, session: &Session) -> Result<(), CliError> {
    let filter = ApiKeysQuery { state };
    let value = session.client()?.list(PATH, &filter).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let keys: Vec<ApiKeyView> = typed(value)?;
    let mut table = output::table(&["name", "state", "scopes", "used", "expires", "prefix", "id"]);
    for key in keys {
        let expires = key.expires_at.map(|at| at.to_string());
        table.add_row([
            plain(&key.name).into(),
            output::state(&word(key.state)),
            key.scopes.join(", ").into(),
            key.last_used_at.map_or("never".to_owned(), ago).into(),
            expires.unwrap_or_else(|| "never".to_owned()).into(),
            plain(&key.prefix).into(),
            key.id.to_string().into(),
        ]);
    }
    output::show(&table, "There are no API keys in this state.");
    Ok(())
}

async fn create(args: CreateArgs, session: &Session) -> Result<(), CliError> {
    let request = CreateApiKeyRequest {
        name: args.name,
        scopes: args.scopes,
        expires_at: None,
        expires_in: args.expires_in,
    };
    let value = session.client()?.post(PATH, &request).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let created: CreatedApiKeyView = typed(value)?;
    output::say(&created.token);
    let valid = match created.api_key.expires_at {
        Some(at) => format!("until {at}"),
        None => "until it is revoked".to_owned(),
    };
    // Standard output has only the token, so that a shell can redirect it into a file.
    eprintln!(
        "This is the token of {}, valid {valid}. The host can't show it again.",
        plain(&created.api_key.name)
    );
    Ok(())
}

async fn revoke(key: &str, session: &Session) -> Result<(), CliError> {
    let path = format!("{PATH}/{}/revoke", segment(key));
    session.client()?.post_empty(&path).await?;
    if !session.is_json() {
        let key = plain(key);
        output::say(&format!(
            "API key {key} is revoked; the host rejects its token."
        ));
    }
    Ok(())
}
