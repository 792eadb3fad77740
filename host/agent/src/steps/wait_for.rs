//! `wait_for`: waits until something answers. The step's time limit bounds it.

use std::time::Duration;

use anyhow::Context as _;
use proto::v1 as pb;
use proto::v1::wait_for::Target;
use tokio::net::TcpStream;

use super::StepContext;
use crate::node_root::checked;
use crate::time;

/// How long one look may take.
const LOOK_MAX: Duration = Duration::from_secs(5);

pub(super) async fn execute(ctx: &StepContext, spec: &pb::WaitFor) -> anyhow::Result<()> {
    let target = spec
        .target
        .as_ref()
        .context("wait_for has no target that this agent knows")?;
    let interval = Duration::from_millis(if spec.interval_ms == 0 {
        500
    } else {
        spec.interval_ms
    });
    let mut last = String::new();
    loop {
        let looked = tokio::time::timeout(LOOK_MAX, look(ctx, target)).await;
        let answer = looked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within 5s")));
        let Err(error) = answer else { return Ok(()) };
        let text = format!("{error:#}\n");
        if text != last {
            // The limit of the step ends this loop from outside; what was seen last explains it.
            ctx.report.print(&text);
            ctx.report.progress(None, text.trim_end());
            last = text;
        }
        time::sleep(interval).await;
    }
}

async fn look(ctx: &StepContext, target: &Target) -> anyhow::Result<()> {
    match target {
        Target::Tcp(address) => {
            TcpStream::connect(address)
                .await
                .with_context(|| format!("{address} does not accept"))?;
        }
        Target::Http(url) => {
            let answer = ctx.local_http.get(url).send().await.context("no answer")?;
            anyhow::ensure!(
                answer.status().is_success(),
                "{url} answers {}",
                answer.status()
            );
        }
        Target::Path(path) => {
            anyhow::ensure!(
                ctx.root.dir.exists(checked(path)?),
                "`{path}` does not exist"
            );
        }
    }
    Ok(())
}
