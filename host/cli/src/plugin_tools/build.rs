//! Builds the crates of plugins into components, as `bellwether plugin build` does.
//!
//! Cargo builds core modules for a target without WASI, and `wit-component` converts them into components. The build remaps
//! local paths, so that two checkouts give the same digest. It does not rewrite an unchanged component, so that a host that
//! watches the folder does not reload it.

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

use super::process::{cargo_home, clean_cargo, output};
use super::toolchain::{self, GuestToolchain, TARGET};

const METADATA_LIMIT: Duration = Duration::from_mins(5);
const BUILD_LIMIT: Duration = Duration::from_mins(30);

/// A built component.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct BuiltComponent {
    /// The plugin's id, which is its crate's name.
    pub(crate) name: String,
    /// The file of the component.
    pub(crate) path: PathBuf,
    /// Its size.
    pub(crate) bytes: usize,
    /// `sha256:` and the digest of its bytes.
    pub(crate) digest: String,
    /// The interfaces that it imports.
    pub(crate) imports: Vec<String>,
}

/// Builds the guest crate or workspace in `dir`; each plugin becomes `<out>/<name>.wasm`.
pub(crate) async fn build(dir: &Path, out: &Path) -> Result<Vec<BuiltComponent>> {
    let dir = fs::canonicalize(dir)
        .with_context(|| format!("the folder {} can't be read", dir.display()))?;
    ensure!(
        dir.join("Cargo.toml").is_file(),
        "{} holds no Cargo.toml",
        dir.display()
    );
    fs::create_dir_all(out)
        .with_context(|| format!("the folder {} can't be created", out.display()))?;
    let toolchain = toolchain::prepare().await?;
    let project = Project::read(&dir).await?;
    let plugins = project.plugins(&dir)?;
    eprintln!("plugin build: compiling {}", plugins.join(", "));
    let modules = compile(&dir, &project, &plugins, &toolchain).await?;
    modules
        .iter()
        .map(|(name, module)| make_component(name, module, out))
        .collect()
}

/// The part of `cargo metadata` that the build needs.
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
    /// Absent for local crates, which come from no registry.
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
        serde_json::from_str(&text).context("the output of `cargo metadata` has an unknown form")
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

    /// Flags that keep local paths out of the modules.
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
        // The compiler applies the last match, and a longer path comes later in the order of the map.
        places
            .iter()
            .map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()))
            .collect()
    }
}

/// Cargo in that folder, so that the folder's own `.cargo/config.toml` applies, without the settings of the caller.
fn cargo(dir: &Path) -> Command {
    let mut cargo = clean_cargo();
    cargo.current_dir(dir).kill_on_drop(true);
    cargo
}

/// A line of cargo's JSON output.
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
        // A separate folder, because other builds on this computer use another compiler.
        .arg("--target-dir")
        .arg(project.workspace_root.join("target"))
        // Cargo joins this with the flags of the folder's own configuration; an environment variable would replace them.
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
        .context("the build did not end within 30 minutes")?;
    let run = run.context("cargo can't be started")?;
    ensure!(
        run.status.success(),
        "the plugins do not compile; cargo's errors are above"
    );
    let report = String::from_utf8(run.stdout).context("the output of cargo is not UTF-8")?;
    let modules = modules(&report, project);
    for plugin in plugins {
        ensure!(
            modules.contains_key(plugin),
            "cargo built no module for {plugin}"
        );
    }
    Ok(modules)
}

/// The modules in cargo's output, by plugin.
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

/// Converts a core module into a component and writes it into `out`.
fn make_component(name: &str, module: &Path, out: &Path) -> Result<BuiltComponent> {
    let module = fs::read(module).with_context(|| format!("{} can't be read", module.display()))?;
    let component =
        encode(&module).with_context(|| format!("{name} can't be converted into a component"))?;
    let imports = imports(&component).with_context(|| format!("{name} is not a plugin"))?;
    let path = out.join(format!("{name}.wasm"));
    if fs::read(&path).ok().as_deref() != Some(component.as_slice()) {
        let mut file = tempfile::NamedTempFile::new_in(out)?;
        file.write_all(&component)?;
        file.persist(&path)
            .with_context(|| format!("{} can't be written", path.display()))?;
    }
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&component)));
    Ok(BuiltComponent {
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

/// The interfaces that a component imports. It must export the interface of every plugin.
fn imports(component: &[u8]) -> Result<Vec<String>> {
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
        bail!("the module is a package of interfaces, not a component");
    };
    let world = &resolve.worlds[world];
    let exports = world.exports.keys().map(|key| resolve.name_world_key(key));
    let is_plugin = exports
        .into_iter()
        .any(|name| name.starts_with("bellwether:types/about@"));
    ensure!(
        is_plugin,
        "the component does not export `bellwether:types/about`; does the crate call `register!`?"
    );
    Ok(world
        .imports
        .keys()
        .map(|key| resolve.name_world_key(key))
        .collect())
}

#[cfg(test)]
mod tests;
