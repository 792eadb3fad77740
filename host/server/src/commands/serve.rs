//! `bellwether serve`: runs a host with the given settings, without an agent.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use host_domain::api_key::admin_name;
use host_runtime::CompileMode;
use host_wire::state_folder::{ADMIN_KEY, HOST_URL};
use rand::RngExt;
use rustix::system::uname;
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;

use super::output::say;
use super::settings::SettingsArgs;
use crate::host::{Host, HostOptions, Schema};
use crate::ops::{ApiKeys, Authentication, OpError, Scope};
use host_system::{SystemClock, write_private};

/// Arguments of `bellwether serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Take over the workflows of another host, which is lost for good
    #[arg(long)]
    take_over_workflows: bool,
}

/// Runs until Ctrl-C or SIGTERM.
pub async fn run(args: ServeArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let config = args.settings.read()?;
    // A SQLite file belongs to this process, so no other process can migrate it.
    let is_embedded = config.database.address(&config.state_dir)?.is_sqlite();
    let options = HostOptions {
        compile: CompileMode::this_binary().context("the path of this program is unknown")?,
        clock: Arc::new(SystemClock),
        schema: if is_embedded {
            Schema::Migrate
        } else {
            Schema::Require
        },
        take_over_workflows: args.take_over_workflows,
    };
    // On the heap, because a host is large.
    Box::pin(until(Host::start(config, options).await?, shutdown)).await
}

/// Lets a started host serve until `shutdown`, and stops it.
pub async fn until(host: Host, shutdown: CancellationToken) -> anyhow::Result<()> {
    announce(&host).await?;
    shutdown.cancelled().await;
    say("Stopping. Nodes keep running; the host finds them at its next start.")?;
    host.stop().await;
    Ok(())
}

/// Writes the files by which the CLI finds and authenticates to the host, and shows the addresses.
pub(super) async fn announce(host: &Host) -> anyhow::Result<()> {
    let state_dir = &host.config().state_dir;
    // The key first: a client that finds the URL must find the key, too.
    ensure_admin_key(&host.ops.api_keys, &state_dir.join(ADMIN_KEY)).await?;
    let url = format!("http://{}\n", host.http);
    write_private(&state_dir.join(HOST_URL), url.as_bytes())?;
    let state = state_dir.display();
    say(&format!(
        "Bellwether is running.\n  console  http://{}/\n  API      http://{}/api/v1  (docs at /docs)\n  agents   https://{}\n  key      {state}/{ADMIN_KEY}\nPress Ctrl-C to stop.",
        host.http, host.http, host.gateway
    ))
}

/// Creates the admin key once; a valid key in the file stays.
async fn ensure_admin_key(keys: &ApiKeys, path: &Path) -> anyhow::Result<()> {
    if let Ok(text) = std::fs::read_to_string(path) {
        let key = SecretString::from(text.trim());
        if matches!(keys.authenticate(&key).await?, Authentication::Caller(..)) {
            return Ok(());
        }
    }
    let key = create_admin_key(keys, &admin_key_name()).await?;
    write_private(path, format!("{}\n", key.expose_secret()).as_bytes())
}

/// The name of this host's admin key.
pub(super) fn admin_key_name() -> String {
    admin_name(&uname().nodename().to_string_lossy())
}

/// Hosts on one machine, and a host that lost its file, find the name taken: their keys get a name that nobody else has.
async fn create_admin_key(keys: &ApiKeys, name: &str) -> Result<SecretString, OpError> {
    let scopes = BTreeSet::from([Scope::Admin]);
    match keys.create_for_host(name, &scopes).await {
        Err(OpError::Conflict(_)) => {
            let name = format!("{name}-{:08x}", rand::rng().random::<u32>());
            keys.create_for_host(&name, &scopes).await
        }
        created => created,
    }
}
