//! `file`: writes a file in one step, so that its reader never sees half of it.

use cap_std::fs::PermissionsExt as _;
use proto::v1 as pb;

use super::{StepContext, Trace};
use crate::node_root::checked;

pub(super) fn plan(ctx: &StepContext, spec: &pb::File) -> anyhow::Result<Trace> {
    let mut trace = Trace::default();
    if !is_done(ctx, spec)? {
        trace.will_replace(&ctx.root, &checked(&spec.path)?, ctx.saved.join("file"))?;
    }
    Ok(trace)
}

pub(super) fn execute(ctx: &StepContext, spec: &pb::File) -> anyhow::Result<()> {
    let path = checked(&spec.path)?;
    ctx.root.create_parents(&path)?;
    ctx.root.write(&path, &spec.content, mode(spec))?;
    Ok(())
}

pub(super) fn is_done(ctx: &StepContext, spec: &pb::File) -> anyhow::Result<bool> {
    let path = checked(&spec.path)?;
    let same_size = ctx.root.dir.symlink_metadata(&path).is_ok_and(|meta| {
        let same_mode = meta.permissions().mode() & 0o777 == mode(spec);
        meta.is_file() && same_mode && meta.len() == spec.content.len() as u64
    });
    Ok(same_size
        && ctx
            .root
            .dir
            .read(&path)
            .is_ok_and(|content| content == spec.content))
}

fn mode(spec: &pb::File) -> u32 {
    if spec.mode == 0 {
        0o640
    } else {
        spec.mode & 0o777
    }
}
