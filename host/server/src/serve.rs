//! `bellwether serve`: a host as its settings say, with neither agent nor node of its own.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use host_runtime::CompileMode;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::Config;
use crate::host::{Host, HostOptions, Schema, write_private};
use crate::ops::Scope;
use host_system::SystemClock;

/// File with the admin's API key.
const ADMIN_KEY: &str = "admin-key";
/// File with the API's URL, by which the CLI finds the host.
const HOST_URL: &str = "host";
/// Settings that count when no others are named.
const SETTINGS: &str = "bellwether.yaml";

/// Where the settings are. Secrets never come as arguments, which every user of the machine can read.
#[derive(Args, Clone, Debug)]
pub struct SettingsArgs {
    /// Settings file; default: `bellwether.yaml` in the current directory. docs/configuration.md lists every key.
    #[arg(long)]
    config: Option<PathBuf>,
}

impl SettingsArgs {
    /// Reads the file, if there is one, and the environment over it.
    pub(crate) fn read(&self) -> anyhow::Result<Config> {
        let own = Path::new(SETTINGS);
        let path = self.config.as_deref().or(own.exists().then_some(own));
        Ok(Config::read(path, std::env::vars())?)
    }
}

/// What `bellwether serve` takes.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Runs the workflows here from now on, because the host that ran them is lost for good.
    #[arg(long)]
    take_over_workflows: bool,
}

/// Runs until Ctrl-C or SIGTERM.
pub async fn run(args: ServeArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let config = args.settings.read()?;
    // Nobody else can have migrated a file that belongs to this process.
    let is_own = config.database.address(&config.state_dir)?.is_sqlite();
    let options = HostOptions {
        compile: CompileMode::this_binary().context("this program can't find itself")?,
        clock: Arc::new(SystemClock),
        schema: if is_own {
            Schema::Migrate
        } else {
            Schema::Require
        },
        take_over_workflows: args.take_over_workflows,
    };
    until(Host::start(config, options).await?, shutdown).await
}

/// Lets a host that was started serve until `shutdown`, and ends it.
pub async fn until(host: Host, shutdown: CancellationToken) -> anyhow::Result<()> {
    open_house(&host).await?;
    shutdown.cancelled().await;
    say("Ending. Nodes go on running; the next start finds them.")?;
    host.stop().await;
    Ok(())
}

/// Leaves in the state folder what the command line needs, and says where everything is.
pub(crate) async fn open_house(host: &Host) -> anyhow::Result<()> {
    let state_dir = &host.app.config.state_dir;
    // The key first: who finds the address finds the key, too.
    ensure_admin_key(&host.app, &state_dir.join(ADMIN_KEY)).await?;
    let url = format!("http://{}\n", host.http);
    write_private(&state_dir.join(HOST_URL), url.as_bytes())?;
    let state = state_dir.display();
    say(&format!(
        "Bellwether is up.\n  console  http://{}/\n  API      http://{}/api/v1  (docs at /docs)\n  agents   https://{}\n  key      {state}/{ADMIN_KEY}\nEnd it with Ctrl-C.",
        host.http, host.http, host.gateway
    ))
}

/// Makes the admin key once; a file that is there stays.
async fn ensure_admin_key(app: &App, path: &Path) -> anyhow::Result<()> {
    if let Ok(text) = std::fs::read_to_string(path) {
        let key = secrecy::SecretString::from(text.trim());
        if app.authenticate(&key).await?.is_some() {
            return Ok(());
        }
    }
    let key = app
        .create_api_key("admin", &BTreeSet::from([Scope::Admin]))
        .await?;
    write_private(path, format!("{}\n", key.expose_secret()).as_bytes())
}

/// Tells the person at the terminal.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("standard output is closed")
}
