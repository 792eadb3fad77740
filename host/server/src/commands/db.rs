//! `bellwether db`: exports the data of an installation from one database and imports it into another.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use tempfile::NamedTempFile;

use super::output::say;
use super::settings::SettingsArgs;
use crate::config::Config;
use crate::host::open_database;
use host_engine::duroxide::EngineLock;
use host_store::{Db, DbOptions, TableSum};

/// Moves the data of an installation, for example from the embedded database to PostgreSQL.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Export all data into a file, as one snapshot
    Export(FileArgs),
    /// Import all data from a file into an empty database with a migrated schema, in one transaction
    Import(FileArgs),
}

/// The file of an export.
#[derive(Args, Clone, Debug)]
pub struct FileArgs {
    /// The file; it holds hashes of API keys and tokens, and only its owner can read it
    file: PathBuf,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Exports or imports the database of the settings.
pub(super) async fn run(command: DbCommand) -> anyhow::Result<()> {
    let (args, is_export) = match command {
        DbCommand::Export(args) => (args, true),
        DbCommand::Import(args) => (args, false),
    };
    let config = args.settings.read()?;
    let _lock = lock_embedded(&config)?;
    let options = DbOptions {
        create: false,
        ..DbOptions::default()
    };
    let db = open_database(&config, &config.state_dir, &options).await?;
    db.check_schema().await?;
    let sums = if is_export {
        export(&db, &args.file).await?
    } else {
        import(&db, &args.file).await?
    };
    db.close().await;
    report(&sums)
}

/// Locks an embedded database: an export would miss what a running host writes after it.
fn lock_embedded(config: &Config) -> anyhow::Result<Option<EngineLock>> {
    let is_embedded = config.database.address(&config.state_dir)?.is_sqlite();
    if !is_embedded || !config.state_dir.exists() {
        return Ok(None);
    }
    let lock = EngineLock::take(&config.state_dir.join("engine.db"));
    Ok(Some(
        lock.context("a host runs on this database; stop it first")?,
    ))
}

async fn export(db: &Db, path: &Path) -> anyhow::Result<Vec<TableSum>> {
    let write = || format!("can't write {}", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Only the owner can read a temporary file.
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

fn report(sums: &[TableSum]) -> anyhow::Result<()> {
    for sum in sums.iter().filter(|sum| sum.rows > 0) {
        say(&format!(
            "{:<24} {:>9} rows  {}",
            sum.table, sum.rows, sum.digest
        ))?;
    }
    let rows: u64 = sums.iter().map(|sum| sum.rows).sum();
    say(&format!(
        "{rows} rows in total, verified by count and digest."
    ))
}
