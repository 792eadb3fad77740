//! `bellwether key restore`: restores keys of nodes from their backups into the database.

use std::sync::Arc;

use clap::{Args, Subcommand};
use host_domain::time::Clock;
use url::Url;

use super::UsageError;
use super::output::say;
use super::settings::SettingsArgs;
use crate::config::Config;
use crate::host::open_database;
use crate::ops::restore_keys;
use host_keys::{BackupConfig, KeyBackup, Keyring, WrappedBy};
use host_store::DbOptions;
use host_system::SystemClock;

/// Commands on the keys in the database.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Restore keys from their backups into the database; keys in the database stay as they are
    Restore(RestoreArgs),
}

/// Where the backups are.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// Place of the backups, `file:///FOLDER` or `s3://BUCKET/PREFIX`; default: the setting `keys.backup.url`
    #[arg(long, value_name = "URL")]
    from: Option<Url>,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(super) async fn run(command: KeyCommand) -> anyhow::Result<()> {
    let KeyCommand::Restore(args) = command;
    let config = args.settings.read()?;
    let backup = KeyBackup::open(&place(&config, args.from)?)?;
    require_master_keys(&config)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let keyring = Keyring::open(&config.keys, &config.state_dir, &clock)?;
    let options = DbOptions {
        create: false,
        ..DbOptions::default()
    };
    let db = open_database(&config, &config.state_dir, &options).await?;
    db.check_schema().await?;
    let outcome = restore_keys(&db, &keyring, &backup, clock.now()).await?;
    db.close().await;
    for skipped in &outcome.skipped {
        say(&format!("not restored: {skipped}"))?;
    }
    say(&format!(
        "{} keys restored, {} were in the database already, {} backups skipped.",
        outcome.restored,
        outcome.present,
        outcome.skipped.len()
    ))
}

fn place(config: &Config, from: Option<Url>) -> Result<BackupConfig, UsageError> {
    match (config.keys.backup.clone(), from) {
        (Some(backup), None) => Ok(backup),
        (Some(backup), Some(url)) => Ok(BackupConfig { url, ..backup }),
        (None, Some(url)) => Ok(BackupConfig::at(url)),
        (None, None) => Err(UsageError(
            "the place of the backups is not set; set --from or `keys.backup.url`".to_owned(),
        )),
    }
}

/// The keyring would create a missing file. Its keys would open no backup, and nobody would notice that the right file is missing.
fn require_master_keys(config: &Config) -> Result<(), UsageError> {
    let file = config.state_dir.join("master-keys");
    if config.keys.wrapped_by != WrappedBy::Local || file.exists() {
        return Ok(());
    }
    Err(UsageError(format!(
        "{} is missing, and no backup opens without it; restore that file first",
        file.display()
    )))
}
