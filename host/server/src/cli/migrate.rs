//! `bellwether migrate`: the one command that changes a schema that several hosts share.

use clap::Args;

use super::error::CliError;
use crate::host::{open_database, private_folder};
use crate::serve::{SettingsArgs, say};
use host_store::DbOptions;

/// Brings the database's schema to this program's version.
#[derive(Args, Clone, Debug)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Lists what would be done and does nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Migrates, or says what it would do.
pub(crate) async fn run(args: MigrateArgs) -> Result<(), CliError> {
    let config = args.settings.read()?;
    if !args.dry_run {
        private_folder(&config.state_dir)?;
    }
    let options = DbOptions {
        // Looking leaves nothing behind.
        create: !args.dry_run,
        ..DbOptions::default()
    };
    let db = open_database(&config, &config.state_dir, &options).await?;
    let pending = db.pending_migrations().await.map_err(anyhow::Error::from)?;
    for step in &pending {
        say(&format!("{:04}_{}", step.version, step.name))?;
    }
    if !args.dry_run {
        db.migrate().await.map_err(anyhow::Error::from)?;
    }
    db.close().await;
    Ok(say(match (pending.len(), args.dry_run) {
        (0, _) => "The database is up to date.",
        (_, true) => "Nothing was changed; `bellwether migrate` does the above.",
        (_, false) => "The database is up to date now.",
    })?)
}
