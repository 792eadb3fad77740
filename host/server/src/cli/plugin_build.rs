//! Makes components of guest crates: what `bellwether plugin build` does.
//!
//! Cargo builds core modules for a target without WASI, `wit-component` makes components of them. Paths of the machine
//! are remapped, so that two checkouts give the same digest; a component that did not change is not written again, so
//! that nobody who watches the folder reloads it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::process::Command;
use tokio::time::timeout;
use wit_component::{ComponentEncoder, DecodedWasm};

use super::guest_toolchain::{self, GuestToolchain, TARGET};
use super::process::{cargo_home, output, own_cargo};

const METADATA_LIMIT: Duration = Duration::from_mins(5);
const BUILD_LIMIT: Duration = Duration::from_mins(30);

/// A component that was built.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Built {
    /// The plugin's id, which is its crate's name.
    pub(crate) name: String,
    /// Where the component lies.
    pub(crate) path: PathBuf,
    /// Its size.
    pub(crate) bytes: usize,
    /// `sha256:` and the digest of its bytes.
    pub(crate) digest: String,
    /// The interfaces that it imports.
    pub(crate) imports: Vec<String>,
}

/// Builds the guest crate or workspace in `dir`; each plugin becomes `<out>/<name>.wasm`.
pub(crate) async fn build(dir: &Path, out: &Path) -> Result<Vec<Built>> {
    let dir = fs::canonicalize(dir)
        .with_context(|| format!("the folder {} can't be read", dir.display()))?;
    ensure!(
        dir.join("Cargo.toml").is_file(),
        "{} holds no Cargo.toml",
        dir.display()
    );
    fs::create_dir_all(out)
        .with_context(|| format!("the folder {} can't be made", out.display()))?;
    let toolchain = guest_toolchain::prepare().await?;
    let project = Project::read(&dir).await?;
    let plugins = project.plugins(&dir)?;
    eprintln!("plugin build: compiling {}", plugins.join(", "));
    let modules = compile(&dir, &project, &plugins, &toolchain).await?;
    modules
        .iter()
        .map(|(name, module)| make_component(name, module, out))
        .collect()
}

/// What `cargo metadata` says, as far as it counts here.
#[derive(Deserialize)]
struct Project {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
    /// Absent for what is no registry's: crates of this machine.
    source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

impl Project {
    async fn read(dir: &Path) -> Result<Self> {
        let mut cargo = cargo(dir);
        cargo.args([
            "metadata",
            "--format-version",
            "1",
            "--filter-platform",
            TARGET,
        ]);
        let text = output(&mut cargo, METADATA_LIMIT).await?;
        serde_json::from_str(&text).context("`cargo metadata` answered in an unknown form")
    }

    /// The crates to build: the one in `dir`, or all plugins of the workspace.
    fn plugins(&self, dir: &Path) -> Result<Vec<String>> {
        let is_plugin = |package: &&Package| {
            self.workspace_members.contains(&package.id)
                && package
                    .targets
                    .iter()
                    .any(|target| target.crate_types.iter().any(|kind| kind == "cdylib"))
        };
        let all: Vec<&Package> = self.packages.iter().filter(is_plugin).collect();
        let here = all
            .iter()
            .filter(|package| package.manifest_path.parent() == Some(dir));
        let mut names: Vec<String> = here.map(|package| package.name.clone()).collect();
        if names.is_empty() {
            names = all.iter().map(|package| package.name.clone()).collect();
        }
        ensure!(
            !names.is_empty(),
            "no plugin in {}: a plugin is a crate with `crate-type = [\"cdylib\"]` under [lib]",
            dir.display()
        );
        names.sort();
        Ok(names)
    }

    /// Flags that keep the machine's paths out of the modules.
    fn remaps(&self, toolchain: &GuestToolchain) -> Vec<String> {
        let mut places = BTreeMap::from([(self.workspace_root.clone(), "/plugins".to_owned())]);
        for package in self
            .packages
            .iter()
            .filter(|package| package.source.is_none())
        {
            if let Some(folder) = package.manifest_path.parent() {
                places.insert(folder.to_owned(), format!("/plugins/{}", package.name));
            }
        }
        if let Some(home) = cargo_home() {
            places.insert(home, "/cargo".into());
        }
        places.insert(
            toolchain.sysroot.join("lib/rustlib/src/rust"),
            "/rustc".into(),
        );
        // The compiler takes the last one that matches: the longer path comes later in the map's order.
        places
            .iter()
            .map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()))
            .collect()
    }
}

/// Cargo in that folder, so that the folder's own `.cargo/config.toml` counts, without the caller's settings.
fn cargo(dir: &Path) -> Command {
    let mut cargo = own_cargo();
    cargo.current_dir(dir).kill_on_drop(true);
    cargo
}

/// A line of cargo's report.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// Builds the core modules, by plugin.
async fn compile(
    dir: &Path,
    project: &Project,
    plugins: &[String],
    toolchain: &GuestToolchain,
) -> Result<BTreeMap<String, PathBuf>> {
    let flags = serde_json::to_string(&project.remaps(toolchain))?;
    let mut cargo = cargo(dir);
    cargo
        .args([
            "build",
            "--release",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
        ])
        // A folder of their own: other builds of the machine use another compiler.
        .arg("--target-dir")
        .arg(project.workspace_root.join("target"))
        // Joined with the flags of the folder's own configuration, where the variable would replace them.
        .arg("--config")
        .arg(format!("target.{TARGET}.rustflags={flags}"))
        .envs(toolchain.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    for plugin in plugins {
        cargo.args(["--package", plugin]);
    }
    let run = timeout(BUILD_LIMIT, cargo.output())
        .await
        .context("the build took longer than half an hour")?;
    let run = run.context("cargo could not be started")?;
    ensure!(
        run.status.success(),
        "the plugins do not compile; see cargo's words above"
    );
    let report = String::from_utf8(run.stdout).context("cargo's report is not text")?;
    let modules = modules(&report, project);
    for plugin in plugins {
        ensure!(
            modules.contains_key(plugin),
            "cargo reported no module for {plugin}"
        );
    }
    Ok(modules)
}

/// The modules in cargo's report, by plugin.
fn modules(report: &str, project: &Project) -> BTreeMap<String, PathBuf> {
    let mut modules = BTreeMap::new();
    for message in report
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
    {
        let module = message
            .filenames
            .iter()
            .find(|file| file.extension().is_some_and(|end| end == "wasm"));
        let package = project
            .packages
            .iter()
            .find(|package| package.id == message.package_id);
        if let ("compiler-artifact", Some(module), Some(package)) =
            (message.reason.as_str(), module, package)
        {
            modules.insert(package.name.clone(), module.clone());
        }
    }
    modules
}

/// Makes a component of a core module and lays it into `out`.
fn make_component(name: &str, module: &Path, out: &Path) -> Result<Built> {
    let module = fs::read(module).with_context(|| format!("{} can't be read", module.display()))?;
    let component = encode(&module).with_context(|| format!("{name} can't be made a component"))?;
    let imports = imports(&component).with_context(|| format!("{name} is no plugin"))?;
    let path = out.join(format!("{name}.wasm"));
    if fs::read(&path).ok().as_deref() != Some(component.as_slice()) {
        let mut file = tempfile::NamedTempFile::new_in(out)?;
        file.write_all(&component)?;
        file.persist(&path)
            .with_context(|| format!("{} can't be written", path.display()))?;
    }
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&component)));
    Ok(Built {
        name: name.to_owned(),
        path,
        bytes: component.len(),
        digest,
        imports,
    })
}

fn encode(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)?
        .encode()
}

/// The interfaces that a component imports; it must export what makes it a plugin.
fn imports(component: &[u8]) -> Result<Vec<String>> {
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
        bail!("it is a package of interfaces");
    };
    let world = &resolve.worlds[world];
    let exports = world.exports.keys().map(|key| resolve.name_world_key(key));
    let is_plugin = exports
        .into_iter()
        .any(|name| name.starts_with("bellwether:types/about@"));
    ensure!(
        is_plugin,
        "it exports nothing; does the crate call `register!`?"
    );
    Ok(world
        .imports
        .keys()
        .map(|key| resolve.name_world_key(key))
        .collect())
}

#[cfg(test)]
mod tests;
