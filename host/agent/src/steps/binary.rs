//! `binary`: points a link in `bin/` at a file of the node's folder. The old file stays in place.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use async_trait::async_trait;
use cap_std::fs::{Permissions, PermissionsExt as _};
use proto::v1 as pb;

use super::{Payload, Step, StepContext, Trace};
use crate::node_root::{BIN_DIR, NodeRoot, checked, checked_name};

#[async_trait]
impl Step for pb::Binary {
    fn kind(&self) -> &'static str {
        "binary"
    }

    fn plan(&self, ctx: &StepContext) -> anyhow::Result<Payload> {
        checked(&self.source)?;
        let mut trace = Trace::default();
        trace.will_link(&ctx.root, &link_path(&self.name)?)?;
        trace.into_payload()
    }

    async fn execute(&self, ctx: &StepContext) -> anyhow::Result<()> {
        let path = checked(&self.source)?;
        link(&ctx.root, &self.name, &path).with_context(|| {
            format!(
                "the agent can't link binary `{}` {}",
                self.name, self.version
            )
        })
    }

    async fn is_done(&self, ctx: &StepContext) -> anyhow::Result<bool> {
        is_linked(&ctx.root, &self.name, &checked(&self.source)?)
    }
}

/// The path of a binary's link.
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

/// Whether `bin/<name>` points at `source`, and `source` exists.
pub(super) fn is_linked(root: &NodeRoot, name: &str, source: &Path) -> anyhow::Result<bool> {
    let target = root.dir.read_link_contents(link_path(name)?);
    Ok(
        target.is_ok_and(|target| target == Path::new("..").join(source))
            && root.dir.exists(source),
    )
}
