//! `directory`: makes a folder and the folders above it.

use cap_std::fs::{Permissions, PermissionsExt as _};
use proto::v1 as pb;

use super::{StepContext, Trace};
use crate::node_root::checked;

pub(super) fn plan(ctx: &StepContext, spec: &pb::Directory) -> anyhow::Result<Trace> {
    let mut trace = Trace::default();
    trace.will_make(&ctx.root, &checked(&spec.path)?)?;
    Ok(trace)
}

pub(super) fn execute(ctx: &StepContext, spec: &pb::Directory) -> anyhow::Result<()> {
    let path = checked(&spec.path)?;
    ctx.root.dir.create_dir_all(&path)?;
    ctx.root
        .dir
        .set_permissions(&path, Permissions::from_mode(mode(spec)))?;
    Ok(())
}

pub(super) fn is_done(ctx: &StepContext, spec: &pb::Directory) -> anyhow::Result<bool> {
    let meta = ctx.root.dir.metadata(checked(&spec.path)?);
    Ok(meta.is_ok_and(|meta| meta.is_dir() && meta.permissions().mode() & 0o777 == mode(spec)))
}

fn mode(spec: &pb::Directory) -> u32 {
    if spec.mode == 0 {
        0o750
    } else {
        spec.mode & 0o777
    }
}
