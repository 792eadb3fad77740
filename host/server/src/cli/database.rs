//! `bellwether db`: a whole installation's data out of one database and into another.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::error::CliError;
use crate::config::Config;
use crate::engine::duroxide::EngineLock;
use crate::serve::{SettingsArgs, say};
use crate::store::{Db, DbOptions, TableSum};

/// Moves an installation's data, for example from the embedded database to PostgreSQL.
#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Writes everything into a file, as of one moment.
    Export(FileArgs),
    /// Reads everything from a file into an empty, migrated database: all of it, or nothing.
    Import(FileArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct FileArgs {
    /// The file. It holds hashes of keys and tokens, and is readable by its owner only.
    file: PathBuf,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Exports or imports the database of the settings.
pub(crate) async fn run(command: DbCommand) -> Result<(), CliError> {
    let (args, is_export) = match command {
        DbCommand::Export(args) => (args, true),
        DbCommand::Import(args) => (args, false),
    };
    let config = args.settings.read()?;
    let _alone = alone(&config)?;
    let url = config.database.address(&config.state_dir)?;
    let db = Db::open(url.expose(), &DbOptions::default())
        .await
        .map_err(anyhow::Error::from)?;
    db.check_schema().await.map_err(anyhow::Error::from)?;
    let sums = if is_export {
        export(&db, &args.file).await?
    } else {
        import(&db, &args.file).await?
    };
    db.close().await;
    tell(&sums)?;
    Ok(())
}

/// An embedded database belongs to the host that runs on it: what that wrote behind the export's back would be lost.
fn alone(config: &Config) -> anyhow::Result<Option<EngineLock>> {
    let is_embedded = config.database.address(&config.state_dir)?.is_sqlite();
    if !is_embedded || !config.state_dir.exists() {
        return Ok(None);
    }
    let lock = EngineLock::take(&config.state_dir.join("engine.db"));
    Ok(Some(lock.context("end the host first")?))
}

async fn export(db: &Db, path: &Path) -> anyhow::Result<Vec<TableSum>> {
    let beside = path.with_extension("partial");
    let write = || format!("can't write {}", beside.display());
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = BufWriter::new(options.open(&beside).with_context(write)?);
    let sums = db
        .export(&mut |line| writeln!(file, "{line}"))
        .await
        .context("nothing was exported")?;
    let file = file.into_inner().with_context(write)?;
    file.sync_all().with_context(write)?;
    std::fs::rename(&beside, path).with_context(write)?;
    Ok(sums)
}

async fn import(db: &Db, path: &Path) -> anyhow::Result<Vec<TableSum>> {
    let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
    db.import(&mut BufReader::new(file).lines())
        .await
        .context("nothing was imported")
}

fn tell(sums: &[TableSum]) -> anyhow::Result<()> {
    for sum in sums.iter().filter(|sum| sum.rows > 0) {
        say(&format!(
            "{:<24} {:>9} rows  {}",
            sum.table, sum.rows, sum.digest
        ))?;
    }
    let rows: u64 = sums.iter().map(|sum| sum.rows).sum();
    say(&format!(
        "{rows} rows in all, compared by count and digest."
    ))
}
