//! `download`: fetches a file with a pinned digest. It resumes an interrupted download, and nodes share the result.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use async_trait::async_trait;
use futures_util::StreamExt as _;
use proto::v1 as pb;
use reqwest::StatusCode;
use reqwest::header::RANGE;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

use super::integrity::Integrity;
use super::{Payload, Step, StepContext, Trace};
use crate::node_root::{NodeRoot, checked, sibling};

/// Report progress after this many bytes.
const PROGRESS_BYTES: u64 = 1 << 20;

#[async_trait]
impl Step for pb::Download {
    fn kind(&self) -> &'static str {
        "download"
    }

    fn plan(&self, ctx: &StepContext) -> anyhow::Result<Payload> {
        Integrity::parse(&self.checksum)?;
        let mut trace = Trace::default();
        trace.will_replace(&ctx.root, &checked(&self.path)?, ctx.backup.join("file"))?;
        trace.into_payload()
    }

    async fn execute(&self, ctx: &StepContext) -> anyhow::Result<()> {
        let (path, integrity) = (checked(&self.path)?, Integrity::parse(&self.checksum)?);
        let part = ctx.artefacts.part(&integrity);
        let artefact = ctx
            .artefacts
            .get(&integrity, |folder| {
                fetch(ctx, &self.url, &integrity, part, folder)
            })
            .await
            .with_context(|| format!("the download of {} failed", self.url))?;
        let root = ctx.root.clone();
        tokio::task::spawn_blocking(move || place(&root, &artefact, &path))
            .await
            .context("copying was interrupted")?
    }

    async fn is_done(&self, ctx: &StepContext) -> anyhow::Result<bool> {
        let (path, integrity) = (checked(&self.path)?, Integrity::parse(&self.checksum)?);
        let Ok(file) = ctx.root.dir.open(&path) else {
            return Ok(false);
        };
        let check = tokio::task::spawn_blocking(move || integrity.check_read(file.into_std()));
        Ok(check.await.context("the check was interrupted")?.is_ok())
    }
}

async fn fetch(
    ctx: &StepContext,
    url: &str,
    integrity: &Integrity,
    part: PathBuf,
    folder: PathBuf,
) -> anyhow::Result<PathBuf> {
    receive(ctx, url, &part).await?;
    let (digest, checked) = (integrity.clone(), part.clone());
    let check = tokio::task::spawn_blocking(move || digest.check(&checked))
        .await
        .context("the check was interrupted")?;
    if check.is_err() {
        // Resuming from wrong bytes would fail forever.
        tokio::fs::remove_file(&part).await?;
    }
    check?;
    let whole = folder.join("file");
    tokio::fs::rename(&part, &whole).await?;
    Ok(whole)
}

async fn receive(ctx: &StepContext, url: &str, part: &Path) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(part)
        .await?;
    let mut received = file.metadata().await?.len();
    let mut request = ctx.http.get(url);
    if received > 0 {
        request = request.header(RANGE, format!("bytes={received}-"));
    }
    let answer = request.send().await.context("the server is unreachable")?;
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => {}
        // The file is complete; the digest decides whether it is right.
        StatusCode::RANGE_NOT_SATISFIABLE if received > 0 => return Ok(()),
        status if status.is_success() => {
            // The server ignores the range and sends the whole file.
            file.set_len(0).await?;
            received = 0;
        }
        status => anyhow::bail!("the server returned {status}"),
    }
    let total = answer.content_length().map(|rest| rest + received);
    let mut body = answer.bytes_stream();
    let mut reported = received;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.context("the connection was interrupted")?;
        file.write_all(&chunk).await?;
        received += chunk.len() as u64;
        if received - reported >= PROGRESS_BYTES {
            reported = received;
            report(ctx, received, total);
        }
    }
    finish(file).await
}

async fn finish(mut file: File) -> anyhow::Result<()> {
    file.flush().await?;
    file.sync_all().await?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "people need no exact fraction")]
fn report(ctx: &StepContext, received: u64, total: Option<u64>) {
    let fraction = total.map(|total| received as f64 / total.max(1) as f64);
    ctx.report
        .progress(fraction, format!("{} MiB", received >> 20));
}

fn place(root: &NodeRoot, from: &Path, path: &Path) -> anyhow::Result<()> {
    root.create_parents(path)?;
    let temp = sibling(path, "part");
    let mut to = root.dir.create(&temp)?;
    let copied = std::fs::File::open(from)
        .and_then(|mut from| std::io::copy(&mut from, &mut to))
        .and_then(|_| to.sync_all())
        .and_then(|()| root.dir.rename(&temp, &root.dir, path));
    if copied.is_err() {
        let _ = root.dir.remove_file(&temp);
    }
    copied.with_context(|| format!("the agent can't write `{}`", path.display()))
}
