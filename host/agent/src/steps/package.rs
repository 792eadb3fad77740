//! `package`: installs a package by its manager's own client into the node's folder.
//!
//! The archive is fetched first and checked against the pinned digest by the agent itself; only then a client
//! unpacks it, without running anything of the package. Where archives come from is the client's configuration.
//! The package becomes visible by one rename, so that a crash leaves all of it or nothing.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use proto::v1 as pb;
use proto::v1::package::Manager;

use super::integrity::Integrity;
use super::{StepContext, Trace, binary, tool};
use crate::node_root::{checked, sibling};

const PACKAGES_DIR: &str = "packages";
/// Where pip puts a package inside its folder; the arguments name it too.
const PIP_CONTENT: &str = "content";

pub(super) fn plan(ctx: &StepContext, spec: &pb::Package) -> anyhow::Result<Trace> {
    let wanted = Wanted::read(spec)?;
    let mut trace = Trace::default();
    trace.will_make(&ctx.root, &wanted.folder)?;
    for (name, _) in &wanted.binaries {
        trace.will_link(&ctx.root, &binary::link_path(name)?)?;
    }
    Ok(trace)
}

pub(super) async fn execute(ctx: &StepContext, spec: &pb::Package) -> anyhow::Result<()> {
    let wanted = Wanted::read(spec)?;
    if !ctx.root.has(&wanted.folder) {
        ctx.report
            .progress(None, format!("fetching {} {}", wanted.name, wanted.version));
        let archive = ctx
            .artefacts
            .get(&wanted.integrity, |folder| fetch(ctx, &wanted, folder))
            .await
            .with_context(|| {
                format!("package {} {} is not fetched", wanted.name, wanted.version)
            })?;
        ctx.report.progress(
            None,
            format!("unpacking {} {}", wanted.name, wanted.version),
        );
        install(ctx, &wanted, &archive).await?;
    }
    for (name, source) in &wanted.binaries {
        binary::link(&ctx.root, name, source).with_context(|| {
            format!(
                "binary `{name}` of package {} {} can't be linked",
                wanted.name, wanted.version
            )
        })?;
    }
    Ok(())
}

pub(super) fn is_done(ctx: &StepContext, spec: &pb::Package) -> anyhow::Result<bool> {
    let wanted = Wanted::read(spec)?;
    for (name, source) in &wanted.binaries {
        if !binary::is_linked(&ctx.root, name, source)? {
            return Ok(false);
        }
    }
    Ok(ctx.root.has(&wanted.folder))
}

/// A package as asked for, checked.
struct Wanted<'a> {
    manager: Manager,
    name: &'a str,
    version: &'a str,
    integrity: Integrity,
    /// Holds the whole package; its name has the digest's beginning, so another digest is another package.
    folder: PathBuf,
    /// Names under `bin/` and the files they are links to.
    binaries: Vec<(&'a str, PathBuf)>,
}

impl<'a> Wanted<'a> {
    fn read(spec: &'a pb::Package) -> anyhow::Result<Self> {
        let manager = spec.manager();
        let integrity = Integrity::parse(&spec.integrity)?;
        let (word, content) = match (manager, &integrity) {
            (Manager::Npm, Integrity::Sha512(_)) => ("npm", format!("node_modules/{}", spec.name)),
            (Manager::Pip, Integrity::Sha256(_)) => ("pip", PIP_CONTENT.to_owned()),
            (Manager::Apt, Integrity::Sha256(_)) => ("apt", "content".to_owned()),
            (Manager::Unspecified, _) => anyhow::bail!("package `{}` has no manager", spec.name),
            (Manager::Npm | Manager::Pip | Manager::Apt, _) => anyhow::bail!(
                "package `{}` pins the wrong kind of digest; npm has sha512-<base64>, pip and apt sha256:<hex>",
                spec.name
            ),
        };
        anyhow::ensure!(
            is_name(&spec.name),
            "`{}` is not a package's name",
            spec.name
        );
        anyhow::ensure!(
            is_version(&spec.version),
            "`{}` is not an exact version",
            spec.version
        );
        let plain = spec.name.replace(['/', '@'], "+");
        let begin = &integrity.hex()[..12];
        let folder =
            Path::new(PACKAGES_DIR).join(format!("{word}-{plain}-{}-{begin}", spec.version));
        let mut binaries = Vec::new();
        for (name, file) in &spec.binaries {
            binaries.push((name.as_str(), folder.join(&content).join(checked(file)?)));
        }
        binaries.sort();
        Ok(Self {
            manager,
            name: &spec.name,
            version: &spec.version,
            integrity,
            folder,
            binaries,
        })
    }
}

async fn fetch(ctx: &StepContext, wanted: &Wanted<'_>, folder: PathBuf) -> anyhow::Result<PathBuf> {
    let at = |separator| format!("{}{separator}{}", wanted.name, wanted.version);
    match wanted.manager {
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
            let pinned = format!("{} --hash=sha256:{}\n", at("=="), wanted.integrity.hex());
            tokio::fs::write(folder.join("requirements.txt"), pinned).await?;
            let args = "-m pip download --no-deps --no-input --disable-pip-version-check --progress-bar off \
                        --only-binary :all: --require-hashes --dest fetched -r requirements.txt";
            tool::run(ctx, &folder, "python3", args.split_ascii_whitespace()).await?;
        }
        Manager::Apt => fetch_deb(ctx, &folder, &at("=")).await?,
        Manager::Unspecified => anyhow::bail!("a package without a manager can't be fetched"),
    }
    find_archive(&folder)
}

/// Downloads without installing, which needs no root. The machine's package lists may be missing or older than the
/// version that is pinned, and are root's to renew: then the agent reads lists of its own from the machine's sources.
async fn fetch_deb(ctx: &StepContext, folder: &Path, pinned: &str) -> anyhow::Result<()> {
    let known = tool::run(ctx, folder, "apt-get", ["download", "-q", pinned]).await;
    let Err(first) = known else {
        return Ok(());
    };
    ctx.report.progress(
        None,
        "the machine's package lists lack it; reading lists anew",
    );
    for part in ["lists/partial", "cache/archives/partial"] {
        tokio::fs::create_dir_all(folder.join(part)).await?;
    }
    let own = [
        format!("Dir::State::Lists={}", folder.join("lists").display()),
        format!("Dir::Cache={}", folder.join("cache").display()),
        // The folder is this user's alone; another one that apt would change to can't enter it.
        "APT::Sandbox::User=".to_owned(),
    ];
    let own = || own.iter().flat_map(|option| ["-o", option]);
    let again = async {
        tool::run(ctx, folder, "apt-get", own().chain(["update", "-q"])).await?;
        let download = own().chain(["download", "-q", pinned]);
        tool::run(ctx, folder, "apt-get", download).await
    };
    again
        .await
        .with_context(|| format!("with the machine's own lists: {first:#}; with lists read anew"))
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
    anyhow::bail!("the client brought no package archive")
}

async fn install(ctx: &StepContext, wanted: &Wanted<'_>, archive: &Path) -> anyhow::Result<()> {
    ctx.root.dir.create_dir_all(PACKAGES_DIR)?;
    clear_stages(ctx)?;
    let stage = sibling(&wanted.folder, "stage");
    ctx.root.dir.create_dir(&stage)?;
    let folder = ctx.root.path.join(&stage);
    let archive = archive
        .to_str()
        .context("the agent's state folder has a name that is not UTF-8")?;
    match wanted.manager {
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
        Manager::Unspecified => anyhow::bail!("a package without a manager can't be unpacked"),
    }
    for (name, source) in &wanted.binaries {
        let inside = stage.join(source.strip_prefix(&wanted.folder).unwrap_or(source));
        anyhow::ensure!(
            ctx.root.dir.is_file(&inside),
            "package {} {} has no file for binary `{name}`: `{}`",
            wanted.name,
            wanted.version,
            inside.display()
        );
        if wanted.manager == Manager::Pip {
            let content = stage.join(PIP_CONTENT);
            let depth = inside.strip_prefix(&content)?.components().count();
            find_modules(ctx, &inside, depth)?;
        }
    }
    ctx.root
        .dir
        .rename(&stage, &ctx.root.dir, &wanted.folder)
        .context("the package can't be put in place")
}

/// Lets a script of Python find its package, `depth` folders up: the folder is none that Python knows.
fn find_modules(ctx: &StepContext, script: &Path, depth: usize) -> anyhow::Result<()> {
    let Ok(text) = ctx.root.dir.read_to_string(script) else {
        // Not a text: a program that needs no help.
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

/// Splits a script of Python before its first statement that may be preceded by another; `None` when it is none.
///
/// pip starts an interpreter with a long path through a shell that reads `'''exec' … '''`, which is a text to Python.
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

/// Removes what broken tries left; commands of one node run one at a time.
fn clear_stages(ctx: &StepContext) -> std::io::Result<()> {
    for entry in ctx.root.dir.read_dir(PACKAGES_DIR)? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with('.') {
            ctx.root.remove(&Path::new(PACKAGES_DIR).join(name))?;
        }
    }
    Ok(())
}

/// Nothing that a client could read as an option, a path, an address or a range.
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
    fn names_and_versions_that_a_client_would_misread_are_refused() {
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
