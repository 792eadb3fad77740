//! `download`: fetches a file with a pinned digest. It resumes what a broken try left, and nodes share the result.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use proto::v1 as pb;
use reqwest::StatusCode;
use reqwest::header::RANGE;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

use super::integrity::Integrity;
use super::{StepContext, Trace};
use crate::node_root::{checked, sibling};

/// Progress is told each time that this much has come.
const PROGRESS_BYTES: u64 = 1 << 20;

pub(super) fn plan(ctx: &StepContext, spec: &pb::Download) -> anyhow::Result<Trace> {
    Integrity::parse(&spec.checksum)?;
    let mut trace = Trace::default();
    trace.will_replace(&ctx.root, &checked(&spec.path)?, ctx.saved.join("file"))?;
    Ok(trace)
}

pub(super) async fn execute(ctx: &StepContext, spec: &pb::Download) -> anyhow::Result<()> {
    let (path, integrity) = (checked(&spec.path)?, Integrity::parse(&spec.checksum)?);
    let part = ctx.artefacts.part(&integrity);
    let fetched = ctx
        .artefacts
        .get(&integrity, |folder| {
            fetch(ctx, spec, &integrity, part, folder)
        })
        .await
        .with_context(|| format!("{} can't be downloaded", spec.url))?;
    let root = ctx.root.clone();
    tokio::task::spawn_blocking(move || place(&root, &fetched, &path))
        .await
        .context("copying broke off")?
}

pub(super) async fn is_done(ctx: &StepContext, spec: &pb::Download) -> anyhow::Result<bool> {
    let (path, integrity) = (checked(&spec.path)?, Integrity::parse(&spec.checksum)?);
    let Ok(file) = ctx.root.dir.open(&path) else {
        return Ok(false);
    };
    let check = tokio::task::spawn_blocking(move || integrity.check_read(file.into_std()));
    Ok(check.await.context("the check broke off")?.is_ok())
}

async fn fetch(
    ctx: &StepContext,
    spec: &pb::Download,
    integrity: &Integrity,
    part: PathBuf,
    folder: PathBuf,
) -> anyhow::Result<PathBuf> {
    receive(ctx, &spec.url, &part).await?;
    let (digest, checked) = (integrity.clone(), part.clone());
    let check = tokio::task::spawn_blocking(move || digest.check(&checked))
        .await
        .context("the check broke off")?;
    if check.is_err() {
        // Going on from wrong bytes would never end well.
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
    let mut have = file.metadata().await?.len();
    let mut request = ctx.http.get(url);
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let answer = request
        .send()
        .await
        .context("the server can't be reached")?;
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => {}
        // There is nothing after what we have; the digest tells whether it is right.
        StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => return Ok(()),
        status if status.is_success() => {
            // The server sends all of it again.
            file.set_len(0).await?;
            have = 0;
        }
        status => anyhow::bail!("the server answers {status}"),
    }
    let total = answer.content_length().map(|rest| rest + have);
    let mut body = answer.bytes_stream();
    let mut told = have;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.context("the connection broke")?;
        file.write_all(&chunk).await?;
        have += chunk.len() as u64;
        if have - told >= PROGRESS_BYTES {
            told = have;
            tell(ctx, have, total);
        }
    }
    finish(file).await
}

async fn finish(mut file: File) -> anyhow::Result<()> {
    file.flush().await?;
    file.sync_all().await?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a fraction for people")]
fn tell(ctx: &StepContext, have: u64, total: Option<u64>) {
    let fraction = total.map(|total| have as f64 / total.max(1) as f64);
    ctx.report.progress(fraction, format!("{} MiB", have >> 20));
}

fn place(root: &crate::node_root::NodeRoot, from: &Path, path: &Path) -> anyhow::Result<()> {
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
    copied.with_context(|| format!("`{}` can't be written", path.display()))
}
