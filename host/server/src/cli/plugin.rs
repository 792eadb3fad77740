//! `bellwether plugin`: what authors and operators do with plugins.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::client::typed;
use super::error::CliError;
use super::output::{self, ago, plain, word};
use super::{Session, plugin_build};
use crate::api::{PluginView, RevisionView};

/// What to do with plugins.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Builds the plugins of a folder into components, and fetches a compiler for them when there is none.
    Build(BuildArgs),
    /// Lists plugins with their revisions, the newest first.
    List,
    /// Lets the host read its configuration again now.
    Reload,
}

/// What to build and where to.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// The plugin's crate, or a cargo workspace of plugins.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Where the components go; `target/components` in that folder when absent.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the command.
pub(crate) async fn run(command: PluginCommand, session: &Session) -> Result<(), CliError> {
    match command {
        PluginCommand::Build(args) => Ok(build(args).await?),
        PluginCommand::List => show(
            session,
            session.client()?.list("/api/v1/plugins", &[]).await?,
        ),
        PluginCommand::Reload => {
            let mut answer = session
                .client()?
                .post("/api/v1/plugins/reload", None)
                .await?;
            show(
                session,
                answer
                    .get_mut("items")
                    .map(serde_json::Value::take)
                    .unwrap_or_default(),
            )
        }
    }
}

fn show(session: &Session, value: serde_json::Value) -> Result<(), CliError> {
    if session.is_json() {
        return output::json(&value);
    }
    let plugins: Vec<PluginView> = typed(value)?;
    let columns = [
        "scope", "plugin", "kind", "gen", "state", "calls", "failed", "mean", "age", "digest",
        "reason",
    ];
    let mut table = output::table(&columns);
    for plugin in &plugins {
        let active = plugin.active.as_ref().map(|revision| revision.id);
        for revision in &plugin.revisions {
            let is_active = active == Some(revision.id);
            let counted = |text: String| if is_active { text } else { String::new() };
            table.add_row([
                plain(&plugin.scope).into(),
                plain(&plugin.plugin).into(),
                revision.kind.map(word).unwrap_or_default().into(),
                revision.generation.to_string().into(),
                output::state(&word(revision.state)),
                counted(plugin.calls.to_string()).into(),
                counted(plugin.failures.to_string()).into(),
                counted(format!("{:.1} ms", plugin.mean_ms)).into(),
                ago(revision.created_at).into(),
                revision.digest.chars().take(19).collect::<String>().into(),
                plain(&reason_of(plugin, revision, is_active)).into(),
            ]);
        }
    }
    output::show(&table, "There is no plugin.");
    Ok(())
}

/// Why a revision is not in use, or why the active one is not called.
fn reason_of(plugin: &PluginView, revision: &RevisionView, is_active: bool) -> String {
    if is_active && plugin.is_open {
        let error = plugin.last_error.as_deref();
        let error = error.unwrap_or("see its incident");
        return format!("breaker open: {error}");
    }
    revision.reason.clone().unwrap_or_default()
}

async fn build(args: BuildArgs) -> Result<()> {
    let out = args
        .out
        .unwrap_or_else(|| args.dir.join("target").join("components"));
    for built in plugin_build::build(&args.dir, &out).await? {
        let kib = built.bytes.div_ceil(1024);
        println!(
            "{}  {kib} KiB  {}  {}",
            built.name,
            built.digest,
            built.path.display()
        );
        for import in &built.imports {
            println!("    imports {import}");
        }
    }
    Ok(())
}
