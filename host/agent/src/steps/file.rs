//! `file`: writes a file atomically, so that no reader sees an incomplete file.

use async_trait::async_trait;
use cap_std::fs::PermissionsExt as _;
use proto::v1 as pb;

use super::{Payload, Step, StepContext, Trace};
use crate::node_root::checked;

#[async_trait]
impl Step for pb::File {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn plan(&self, ctx: &StepContext) -> anyhow::Result<Payload> {
        let mut trace = Trace::default();
        if !is_written(ctx, self)? {
            trace.will_replace(&ctx.root, &checked(&self.path)?, ctx.backup.join("file"))?;
        }
        trace.into_payload()
    }

    async fn execute(&self, ctx: &StepContext) -> anyhow::Result<()> {
        let path = checked(&self.path)?;
        ctx.root.create_parents(&path)?;
        ctx.root.write(&path, &self.content, mode(self))?;
        Ok(())
    }

    async fn is_done(&self, ctx: &StepContext) -> anyhow::Result<bool> {
        is_written(ctx, self)
    }
}

fn is_written(ctx: &StepContext, file: &pb::File) -> anyhow::Result<bool> {
    let path = checked(&file.path)?;
    let same_size = ctx.root.dir.symlink_metadata(&path).is_ok_and(|meta| {
        let same_mode = meta.permissions().mode() & 0o777 == mode(file);
        meta.is_file() && same_mode && meta.len() == file.content.len() as u64
    });
    Ok(same_size
        && ctx
            .root
            .dir
            .read(&path)
            .is_ok_and(|content| content == file.content))
}

fn mode(file: &pb::File) -> u32 {
    if file.mode == 0 {
        0o640
    } else {
        file.mode & 0o777
    }
}
