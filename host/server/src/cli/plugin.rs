//! `bellwether plugin`: what authors and operators do with plugins.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::plugin_build;

/// What to do with plugins.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Builds the plugins of a folder into components, and fetches a compiler for them when there is none.
    Build(BuildArgs),
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
pub(crate) async fn run(command: PluginCommand) -> Result<()> {
    match command {
        PluginCommand::Build(args) => build(args).await,
    }
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
