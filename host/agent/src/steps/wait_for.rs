//! `wait_for`: polls until a target answers. The step's timeout limits it.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use proto::v1 as pb;
use proto::v1::wait_for::Target;
use tokio::net::TcpStream;

use super::{Payload, Step, StepContext, Trace};
use crate::node_root::checked;
use crate::time;

/// How long one poll may take.
const POLL_MAX: Duration = Duration::from_secs(5);
/// The time between polls of a step that sets none.
const INTERVAL_DEFAULT: Duration = Duration::from_millis(500);

#[async_trait]
impl Step for pb::WaitFor {
    fn kind(&self) -> &'static str {
        "wait_for"
    }

    fn plan(&self, _: &StepContext) -> anyhow::Result<Payload> {
        Trace::default().into_payload()
    }

    async fn execute(&self, ctx: &StepContext) -> anyhow::Result<()> {
        let target = self
            .target
            .as_ref()
            .context("this agent does not know the target of the step; update the agent")?;
        let interval = match self.interval_ms {
            0 => INTERVAL_DEFAULT,
            ms => Duration::from_millis(ms),
        };
        let mut last = String::new();
        loop {
            let answer = tokio::time::timeout(POLL_MAX, poll(ctx, target)).await;
            let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within 5s")));
            let Err(error) = answer else { return Ok(()) };
            let text = format!("{error:#}\n");
            if text != last {
                // The step's timeout drops this loop, so the output must already contain the last error.
                ctx.report.print(&text);
                ctx.report.progress(None, text.trim_end());
                last = text;
            }
            time::sleep(interval).await;
        }
    }

    /// `execute` itself checks the system.
    async fn is_done(&self, _: &StepContext) -> anyhow::Result<bool> {
        Ok(false)
    }
}

async fn poll(ctx: &StepContext, target: &Target) -> anyhow::Result<()> {
    match target {
        Target::Tcp(address) => {
            TcpStream::connect(address)
                .await
                .with_context(|| format!("{address} accepts no connection"))?;
        }
        Target::Http(url) => {
            let answer = ctx.local_http.get(url).send().await.context("no answer")?;
            anyhow::ensure!(
                answer.status().is_success(),
                "{url} returned {}",
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
