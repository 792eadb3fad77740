//! `bellwether db`: a whole installation's data out of one database and into another.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use tempfile::NamedTempFile;

use super::error::CliError;
use crate::config::Config;
use crate::host::open_database;
use crate::serve::{SettingsArgs, say};
use host_engine::duroxide::EngineLock;
use host_store::{Db, DbOptions, TableSum};

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
    let options = DbOptions {
        create: false,
        ..DbOptions::default()
    };
    let db = open_database(&config, &config.state_dir, &options).await?;
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
    let write = || format!("can't write {}", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // A temporary file is made for its owner only.
    let mut file = BufWriter::new(NamedTempFile::new_in(folder).with_context(write)?);
    let sums = db
        .export(&mut |line| writeln!(file, "{line}"))
        .await
        .context("nothing was exported")?;
    let file = file.into_inner().with_context(write)?;
    file.as_file().sync_all().with_context(write)?;
    file.persist(path).with_context(write)?;
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
