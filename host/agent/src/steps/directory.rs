//! `directory`: creates a folder and its parents.

use async_trait::async_trait;
use cap_std::fs::{Permissions, PermissionsExt as _};
use proto::v1 as pb;

use super::{Payload, Step, StepContext, Trace};
use crate::node_root::checked;

#[async_trait]
impl Step for pb::Directory {
    fn kind(&self) -> &'static str {
        "directory"
    }

    fn plan(&self, ctx: &StepContext) -> anyhow::Result<Payload> {
        let mut trace = Trace::default();
        trace.will_create(&ctx.root, &checked(&self.path)?)?;
        trace.into_payload()
    }

    async fn execute(&self, ctx: &StepContext) -> anyhow::Result<()> {
        let path = checked(&self.path)?;
        ctx.root.dir.create_dir_all(&path)?;
        ctx.root
            .dir
            .set_permissions(&path, Permissions::from_mode(mode(self)))?;
        Ok(())
    }

    async fn is_done(&self, ctx: &StepContext) -> anyhow::Result<bool> {
        let meta = ctx.root.dir.metadata(checked(&self.path)?);
        Ok(meta.is_ok_and(|meta| meta.is_dir() && meta.permissions().mode() & 0o777 == mode(self)))
    }
}

fn mode(directory: &pb::Directory) -> u32 {
    if directory.mode == 0 {
        0o750
    } else {
        directory.mode & 0o777
    }
}
