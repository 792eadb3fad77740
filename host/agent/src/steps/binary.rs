//! `binary`: puts a file of the node's folder under `bin/` by switching a link. The old file stays where it is.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cap_std::fs::{Permissions, PermissionsExt as _};
use proto::v1 as pb;

use super::{StepContext, Trace};
use crate::node_root::{BIN_DIR, NodeRoot, checked, checked_name};

pub(super) fn plan(ctx: &StepContext, spec: &pb::Binary) -> anyhow::Result<Trace> {
    checked(&spec.source)?;
    let mut trace = Trace::default();
    trace.will_link(&ctx.root, &link_path(&spec.name)?)?;
    Ok(trace)
}

pub(super) fn execute(ctx: &StepContext, spec: &pb::Binary) -> anyhow::Result<()> {
    let path = checked(&spec.source)?;
    link(&ctx.root, &spec.name, &path).with_context(|| {
        format!(
            "binary `{}` {} can't be put in place",
            spec.name, spec.version
        )
    })
}

pub(super) fn is_done(ctx: &StepContext, spec: &pb::Binary) -> anyhow::Result<bool> {
    is_linked(&ctx.root, &spec.name, &checked(&spec.source)?)
}

/// Where the link of a binary is.
pub(super) fn link_path(name: &str) -> anyhow::Result<PathBuf> {
    Ok(Path::new(BIN_DIR).join(checked_name(name)?))
}

/// Makes `source` executable and points `bin/<name>` at it.
pub(super) fn link(root: &NodeRoot, name: &str, source: &Path) -> anyhow::Result<()> {
    let meta = root
        .dir
        .metadata(source)
        .with_context(|| format!("`{}` is not in the node's folder", source.display()))?;
    anyhow::ensure!(meta.is_file(), "`{}` is not a file", source.display());
    let mode = meta.permissions().mode();
    if mode & 0o100 == 0 {
        root.dir
            .set_permissions(source, Permissions::from_mode(mode | 0o755))?;
    }
    root.dir.create_dir_all(BIN_DIR)?;
    root.switch_link(&link_path(name)?, &Path::new("..").join(source))?;
    Ok(())
}

/// Whether `bin/<name>` points at `source`, and `source` is there.
pub(super) fn is_linked(root: &NodeRoot, name: &str, source: &Path) -> anyhow::Result<bool> {
    let target = root.dir.read_link_contents(link_path(name)?);
    Ok(
        target.is_ok_and(|target| target == Path::new("..").join(source))
            && root.dir.exists(source),
    )
}
