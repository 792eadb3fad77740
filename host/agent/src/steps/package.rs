//! `package`: installs a package into the node's folder with the client of its package manager.
//!
//! The client fetches the archive from the sources in its own configuration. The agent verifies the pinned digest. Then
//! the client unpacks the archive without running any script of the package. One rename makes the package visible, so a
//! crash leaves the whole package or nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use async_trait::async_trait;
use proto::v1 as pb;
use proto::v1::package::Manager;

use super::integrity::Integrity;
use super::{Payload, Step, StepContext, Trace, binary, tool};
use crate::node_root::{checked, sibling};

const PACKAGES_DIR: &str = "packages";
/// Where pip and dpkg-deb put the files inside the package's folder. Their arguments contain the same name.
const CONTENT_DIR: &str = "content";

#[async_trait]
impl Step for pb::Package {
    fn kind(&self) -> &'static str {
        "package"
    }

    fn plan(&self, ctx: &StepContext) -> anyhow::Result<Payload> {
        let package = PackageSpec::read(self)?;
        let mut trace = Trace::default();
        trace.will_create(&ctx.root, &package.folder)?;
        for (name, _) in &package.binaries {
            trace.will_link(&ctx.root, &binary::link_path(name)?)?;
        }
        trace.into_payload()
    }

    async fn execute(&self, ctx: &StepContext) -> anyhow::Result<()> {
        let package = PackageSpec::read(self)?;
        if !ctx.root.has(&package.folder) {
            ctx.report.progress(None, format!("fetching {package}"));
            let archive = ctx
                .artefacts
                .get(&package.integrity, |folder| fetch(ctx, &package, folder))
                .await
                .with_context(|| format!("package {package} is not fetched"))?;
            ctx.report.progress(None, format!("unpacking {package}"));
            install(ctx, &package, &archive).await?;
        }
        for (name, source) in &package.binaries {
            binary::link(&ctx.root, name, source).with_context(|| {
                format!("the agent can't link binary `{name}` of package {package}")
            })?;
        }
        Ok(())
    }

    async fn is_done(&self, ctx: &StepContext) -> anyhow::Result<bool> {
        let package = PackageSpec::read(self)?;
        for (name, source) in &package.binaries {
            if !binary::is_linked(&ctx.root, name, source)? {
                return Ok(false);
            }
        }
        Ok(ctx.root.has(&package.folder))
    }
}

/// The valid settings of a package step.
struct PackageSpec<'a> {
    manager: Manager,
    name: &'a str,
    version: &'a str,
    integrity: Integrity,
    /// The folder of the package. Its name contains the start of the digest, so each digest has a folder of its own.
    folder: PathBuf,
    /// Names in `bin/` and the files that they link to.
    binaries: Vec<(&'a str, PathBuf)>,
}

impl<'a> PackageSpec<'a> {
    fn read(package: &'a pb::Package) -> anyhow::Result<Self> {
        let manager = package.manager();
        let integrity = Integrity::parse(&package.integrity)?;
        let (prefix, content) = match (manager, &integrity) {
            (Manager::Npm, Integrity::Sha512(_)) => {
                ("npm", format!("node_modules/{}", package.name))
            }
            (Manager::Pip, Integrity::Sha256(_)) => ("pip", CONTENT_DIR.to_owned()),
            (Manager::Apt, Integrity::Sha256(_)) => ("apt", CONTENT_DIR.to_owned()),
            (Manager::Unspecified, _) => {
                anyhow::bail!("package `{}` names no package manager", package.name)
            }
            (Manager::Npm | Manager::Pip | Manager::Apt, _) => anyhow::bail!(
                "package `{}` pins the wrong kind of digest; npm uses sha512-<base64>, pip and apt use sha256:<hex>",
                package.name
            ),
        };
        anyhow::ensure!(
            is_name(&package.name),
            "`{}` is not a package name",
            package.name
        );
        anyhow::ensure!(
            is_version(&package.version),
            "`{}` is not an exact version",
            package.version
        );
        let plain = package.name.replace(['/', '@'], "+");
        let start = &integrity.hex()[..12];
        let folder =
            Path::new(PACKAGES_DIR).join(format!("{prefix}-{plain}-{}-{start}", package.version));
        let mut binaries = Vec::new();
        for (name, file) in &package.binaries {
            binaries.push((name.as_str(), folder.join(&content).join(checked(file)?)));
        }
        binaries.sort();
        Ok(Self {
            manager,
            name: &package.name,
            version: &package.version,
            integrity,
            folder,
            binaries,
        })
    }
}

impl fmt::Display for PackageSpec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

async fn fetch(
    ctx: &StepContext,
    package: &PackageSpec<'_>,
    folder: PathBuf,
) -> anyhow::Result<PathBuf> {
    let at = |separator| format!("{}{separator}{}", package.name, package.version);
    match package.manager {
        Manager::Npm => {
            let args = [
                "pack",
                &at("@"),
                "--ignore-scripts",
                "--loglevel=error",
                "--pack-destination",
                ".",
            ];
            tool::run(ctx, &folder, "npm", args).await?;
        }
        Manager::Pip => {
            let pinned = format!("{} --hash=sha256:{}\n", at("=="), package.integrity.hex());
            tokio::fs::write(folder.join("requirements.txt"), pinned).await?;
            let args = "-m pip download --no-deps --no-input --disable-pip-version-check --progress-bar off \
                        --only-binary :all: --require-hashes --dest fetched -r requirements.txt";
            tool::run(ctx, &folder, "python3", args.split_ascii_whitespace()).await?;
        }
        Manager::Apt => fetch_deb(ctx, &folder, &at("=")).await?,
        Manager::Unspecified => anyhow::bail!("the package names no package manager"),
    }
    find_archive(&folder)
}

/// Downloads without installing, which needs no root. The machine's package lists may lack the pinned version, and only
/// root can update them. In this case the agent downloads lists of its own from the machine's sources.
async fn fetch_deb(ctx: &StepContext, folder: &Path, pinned: &str) -> anyhow::Result<()> {
    let downloaded = tool::run(ctx, folder, "apt-get", ["download", "-q", pinned]).await;
    let Err(first) = downloaded else {
        return Ok(());
    };
    ctx.report.progress(
        None,
        "the machine's package lists lack the package; downloading new lists",
    );
    for part in ["lists/partial", "cache/archives/partial"] {
        tokio::fs::create_dir_all(folder.join(part)).await?;
    }
    let own = [
        format!("Dir::State::Lists={}", folder.join("lists").display()),
        format!("Dir::Cache={}", folder.join("cache").display()),
        // Only this user can enter the folder, so apt must not switch to another one.
        "APT::Sandbox::User=".to_owned(),
    ];
    let own = || own.iter().flat_map(|option| ["-o", option]);
    let retry = async {
        tool::run(ctx, folder, "apt-get", own().chain(["update", "-q"])).await?;
        let download = own().chain(["download", "-q", pinned]);
        tool::run(ctx, folder, "apt-get", download).await
    };
    retry
        .await
        .with_context(|| format!("with the machine's package lists: {first:#}; with new lists"))
}

fn find_archive(folder: &Path) -> anyhow::Result<PathBuf> {
    for folder in [folder.to_owned(), folder.join("fetched")] {
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            let kind = path.extension().and_then(|kind| kind.to_str());
            if matches!(kind, Some("tgz" | "whl" | "deb")) {
                return Ok(path);
            }
        }
    }
    anyhow::bail!("the package manager downloaded no archive")
}

async fn install(
    ctx: &StepContext,
    package: &PackageSpec<'_>,
    archive: &Path,
) -> anyhow::Result<()> {
    ctx.root.dir.create_dir_all(PACKAGES_DIR)?;
    clear_stages(ctx)?;
    let stage = sibling(&package.folder, "stage");
    ctx.root.dir.create_dir(&stage)?;
    let folder = ctx.root.path.join(&stage);
    let archive = archive
        .to_str()
        .context("the path of the agent's state folder is not UTF-8")?;
    match package.manager {
        Manager::Npm => {
            let args = "install --prefix . --ignore-scripts --no-audit --no-fund --prefer-offline --omit=dev \
                        --no-save --loglevel=error";
            tool::run(
                ctx,
                &folder,
                "npm",
                args.split_ascii_whitespace().chain([archive]),
            )
            .await?;
        }
        Manager::Pip => {
            let args = "-m pip install --no-deps --no-index --no-input --no-compile --no-warn-script-location \
                        --disable-pip-version-check --progress-bar off --target content";
            tool::run(
                ctx,
                &folder,
                "python3",
                args.split_ascii_whitespace().chain([archive]),
            )
            .await?;
        }
        Manager::Apt => tool::run(ctx, &folder, "dpkg-deb", ["-x", archive, "content"]).await?,
        Manager::Unspecified => anyhow::bail!("the package names no package manager"),
    }
    for (name, source) in &package.binaries {
        let inside = stage.join(source.strip_prefix(&package.folder).unwrap_or(source));
        anyhow::ensure!(
            ctx.root.dir.is_file(&inside),
            "package {package} has no file `{}` for binary `{name}`",
            inside.display()
        );
        if package.manager == Manager::Pip {
            let content = stage.join(CONTENT_DIR);
            let depth = inside.strip_prefix(&content)?.components().count();
            add_module_path(ctx, &inside, depth)?;
        }
    }
    ctx.root
        .dir
        .rename(&stage, &ctx.root.dir, &package.folder)
        .context("the agent can't move the package into place")
}

/// Makes a Python script find its package `depth` folders up, because that folder is not on Python's path.
fn add_module_path(ctx: &StepContext, script: &Path, depth: usize) -> anyhow::Result<()> {
    let Ok(text) = ctx.root.dir.read_to_string(script) else {
        // Not a text, so not a script.
        return Ok(());
    };
    if let Some((head, body)) = split_python(&text) {
        let up =
            "os.path.dirname(".repeat(depth) + "os.path.realpath(__file__)" + &")".repeat(depth);
        let text = format!("{head}import os, sys; sys.path.insert(0, {up})\n{body}");
        ctx.root.dir.write(script, text)?;
    }
    Ok(())
}

/// Splits a Python script at the first place where another statement may stand; `None` for other files.
///
/// For an interpreter with a long path, pip writes a shell line `'''exec' … '''`, which Python reads as a string.
fn split_python(script: &str) -> Option<(&str, &str)> {
    let (first, rest) = script.split_once('\n')?;
    let by_shell = first.starts_with("#!/bin/sh") && rest.starts_with("'''exec'");
    let by_itself = first.starts_with("#!") && first.contains("python");
    if !by_shell && !by_itself {
        return None;
    }
    let mut at = first.len() + 1;
    if by_shell {
        const END: &str = "\n' '''\n";
        at += rest.find(END)? + END.len();
    }
    let (mut head, mut is_open) = (at, false);
    for line in script[at..].split_inclusive('\n') {
        at += line.len();
        let is_future = line.starts_with("from __future__ import");
        if is_future || is_open {
            head = at;
            is_open = !line.contains(')') && (is_open || line.contains('('));
        }
    }
    Some(script.split_at(head))
}

/// Removes what interrupted attempts left. The commands of one node run one at a time.
fn clear_stages(ctx: &StepContext) -> std::io::Result<()> {
    for entry in ctx.root.dir.read_dir(PACKAGES_DIR)? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with('.') {
            ctx.root.remove(&Path::new(PACKAGES_DIR).join(name))?;
        }
    }
    Ok(())
}

/// Whether no client can read the text as an option, a path, a URL or a version range.
fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-'))
    };
    match text
        .strip_prefix('@')
        .and_then(|scoped| scoped.split_once('/'))
    {
        Some((scope, name)) => part(scope) && part(name),
        None => part(text),
    }
}

fn is_version(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| {
            c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-' | '~' | ':' | '!')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_python_script_is_split_where_a_statement_may_stand() {
        for (head, body) in [
            ("#!/usr/bin/python3\n", "import x\n"),
            (
                "#!/usr/bin/env python3.11\n# -*- coding: utf-8 -*-\nfrom __future__ import print_function\n",
                "x()\n",
            ),
            (
                "#!/usr/bin/python3\nfrom __future__ import (\n    division,\n)\n",
                "x(\n)\n",
            ),
            (
                "#!/bin/sh\n'''exec' \"/a long/path/python\" \"$0\" \"$@\"\n' '''\n",
                "import x\n",
            ),
        ] {
            let script = format!("{head}{body}");
            assert_eq!(split_python(&script), Some((head, body)));
        }
        for other in [
            "#!/bin/sh\necho\n",
            "\u{7f}ELF",
            "#!/usr/bin/perl\n1;\n",
            "",
        ] {
            assert_eq!(split_python(other), None, "{other:?}");
        }
    }

    #[test]
    fn names_and_versions_that_a_client_would_misread_are_rejected() {
        for good in [
            "anvil",
            "@foundry-rs/anvil-linux-amd64",
            "litecoind",
            "libstdc++6",
            "zope.interface",
        ] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "", "-g", "--global", "../x", "@a", "@/b", "@-a/b", "a/b", "a@1", "http://x", "a b",
            ".x",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
        for good in ["1.7.1", "0.21.2.1-1build1", "1:2.0~rc1", "2.0.0-rc.1+5"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "^1", "latest", "1.x || 2", "*", "-1", "1/2"] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
