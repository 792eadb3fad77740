//! `bellwether plugin`: builds, lists and reloads plugins.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use host_wire::{PageView, PluginView, RevisionView};

use super::client::{NoFilter, typed};
use super::error::CliError;
use super::output::{self, ago, plain, word};
use super::{Session, plugin_tools};

/// Commands on plugins.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Build the plugins in a folder; installs a compiler for WebAssembly if none is found
    Build(BuildArgs),
    /// List plugins with their revisions, newest first
    List,
    /// Reload the configuration of the host now
    Reload,
}

/// What to build, and the destination.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Crate of a plugin, or cargo workspace of plugins
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Folder for the components; default: `target/components` in that folder
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the command.
pub(crate) async fn run(command: PluginCommand, session: &Session) -> Result<(), CliError> {
    match command {
        PluginCommand::Build(args) => Ok(build(args).await?),
        PluginCommand::List => {
            let path = "/api/v1/plugins";
            show(session, session.client()?.list(path, &NoFilter {}).await?)
        }
        PluginCommand::Reload => {
            let path = "/api/v1/plugins/reload";
            let answer = session.client()?.post_empty(path).await?;
            let page: PageView<serde_json::Value> = typed(answer)?;
            show(session, serde_json::Value::Array(page.items))
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
    output::show(&table, "The host has no plugins.");
    Ok(())
}

/// Why a revision is not in use, or why the host does not call the active one.
fn reason_of(plugin: &PluginView, revision: &RevisionView, is_active: bool) -> String {
    if is_active && plugin.is_open {
        let error = plugin.last_error.as_deref();
        let error = error.unwrap_or("see its incident");
        return format!("circuit breaker open: {error}");
    }
    revision.reason.clone().unwrap_or_default()
}

async fn build(args: BuildArgs) -> Result<()> {
    let out = args
        .out
        .unwrap_or_else(|| args.dir.join("target").join("components"));
    for built in plugin_tools::build(&args.dir, &out).await? {
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
