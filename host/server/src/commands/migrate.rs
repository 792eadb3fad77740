//! `bellwether migrate`: the only command that changes the schema of a database that several hosts share.

use clap::Args;

use super::output::say;
use super::settings::SettingsArgs;
use crate::host::open_database;
use host_store::DbOptions;
use host_system::private_folder;

/// How to migrate.
#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// List the pending schema migrations and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Migrates the schema, or lists the pending schema migrations.
pub(super) async fn run(args: MigrateArgs) -> anyhow::Result<()> {
    let config = args.settings.read()?;
    if !args.dry_run {
        private_folder(&config.state_dir)?;
    }
    let options = DbOptions {
        // A dry run creates no database.
        create: !args.dry_run,
        ..DbOptions::default()
    };
    let db = open_database(&config, &config.state_dir, &options).await?;
    let pending = db.pending_migrations().await?;
    for step in &pending {
        say(&format!("{:04}_{}", step.version, step.name))?;
    }
    if !args.dry_run {
        db.migrate().await?;
    }
    db.close().await;
    say(match (pending.len(), args.dry_run) {
        (0, _) => "The schema is up to date.",
        (_, true) => {
            "Nothing was changed; `bellwether migrate` executes the schema migrations above."
        }
        (_, false) => "The schema is up to date now.",
    })
}
