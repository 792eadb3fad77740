//! `key`: writes a key of the node. The material comes from the host when the step runs and is never kept elsewhere.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::v1 as pb;
use proto::v1::agent_gateway_client::AgentGatewayClient;
use proto::v1::key_file::Encoding;
use tonic::{Code, Status};
use zeroize::Zeroizing;

use super::{StepContext, Trace};
use crate::lease;
use crate::node_root::checked;
use crate::time;

/// For its owner only.
const MODE: u32 = 0o600;
/// How long the host may take to answer.
const FETCH_MAX: Duration = Duration::from_secs(30);
/// How long the host may be away when the step comes to it.
const AWAY_MAX: Duration = Duration::from_mins(2);
/// Before the second question.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two looks for a key that a person has to bring.
const PERSON_PAUSE: Duration = Duration::from_secs(2);
/// Between later ones.
const PAUSE_MAX: Duration = Duration::from_secs(10);

pub(super) fn plan(ctx: &StepContext, spec: &pb::KeyFile) -> anyhow::Result<Trace> {
    let mut trace = Trace::default();
    let path = checked(&spec.path)?;
    if !ctx.root.has(&path) {
        trace.will_make(&ctx.root, &path)?;
    }
    Ok(trace)
}

pub(super) async fn execute(ctx: &StepContext, spec: &pb::KeyFile) -> anyhow::Result<()> {
    let path = checked(&spec.path)?;
    let material = fetch(ctx, &spec.name).await?;
    let content = encoded(&material, spec.encoding())?;
    ctx.root.create_parents(&path)?;
    ctx.root.write(&path, &content, MODE)?;
    Ok(())
}

/// A key never changes under its name, so a file that is there is the key.
pub(super) fn is_done(ctx: &StepContext, spec: &pb::KeyFile) -> anyhow::Result<bool> {
    Ok(ctx.root.has(&checked(&spec.path)?))
}

/// Waits for a key that a person has to bring, as long as the step may take.
async fn fetch(ctx: &StepContext, name: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    loop {
        if let Some(material) = fetch_if_there(ctx, name).await? {
            return Ok(material);
        }
        time::sleep(PERSON_PAUSE).await;
    }
}

/// Asks again while the host is away or ends: a restart of it is no reason to give an installation up. `None` while a person has
/// not brought the key.
async fn fetch_if_there(
    ctx: &StepContext,
    name: &str,
) -> anyhow::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut last = None;
    let fetched = tokio::time::timeout(AWAY_MAX, async {
        let mut attempt = 0;
        loop {
            match fetch_once(ctx, name).await? {
                Ok(material) => return Ok(Some(material)),
                Err(status) if status.code() == Code::NotFound => return Ok(None),
                Err(status) if is_passing(status.code()) => last = Some(status),
                Err(status) => anyhow::bail!("key `{name}`: {}", status.message()),
            }
            time::sleep(time::backoff(PAUSE, PAUSE_MAX, attempt)).await;
            attempt += 1;
        }
    })
    .await;
    fetched.unwrap_or_else(|_| {
        let why = last.map_or(String::new(), |status| format!(" ({})", status.message()));
        anyhow::bail!(
            "the host could not be reached for key `{name}`{why}; let the agent connect, then provision again"
        )
    })
}

async fn fetch_once(
    ctx: &StepContext,
    name: &str,
) -> anyhow::Result<Result<Zeroizing<Vec<u8>>, Status>> {
    let mut gateway = ctx.gateway.clone();
    let linked = gateway.wait_for(Option::is_some).await;
    let channel = linked.context("the agent is ending")?.clone();
    let mut request = tonic::Request::new(pb::FetchKeyRequest {
        node_id: ctx.root.id.to_string(),
        name: name.to_owned(),
    });
    request.set_timeout(FETCH_MAX);
    let channel = channel.context("the host can't be reached")?;
    let asked_at = lease::now();
    let answer = AgentGatewayClient::new(channel).fetch_key(request).await;
    let answer = match answer {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Ok(Err(status)),
    };
    let material = Zeroizing::new(answer.material);
    // Before the key is there: whoever finds the key finds the lease.
    lease::begin(&ctx.root, asked_at, Duration::from_millis(answer.lease_ms))
        .context("the key's lease can't be written down")?;
    Ok(Ok(material))
}

/// Whether the same question may be answered later. A connection that breaks off is `Unknown` or `Internal` to tonic.
fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::Unknown
            | Code::Internal
            | Code::Cancelled
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
    )
}

fn encoded(material: &[u8], encoding: Encoding) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let bytes = match encoding {
        Encoding::Hex => hex::encode(material).into_bytes(),
        Encoding::Base64 => STANDARD.encode(material).into_bytes(),
        Encoding::Raw => material.to_vec(),
        Encoding::Unspecified => anyhow::bail!("the key's encoding is not known; update the agent"),
    };
    Ok(Zeroizing::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_is_what_its_name_says() {
        let text = |encoding| encoded(&[0xab, 0x01], encoding).map(|bytes| bytes.to_vec());
        assert_eq!(text(Encoding::Hex).unwrap(), b"ab01");
        assert_eq!(text(Encoding::Base64).unwrap(), b"qwE=");
        assert_eq!(text(Encoding::Raw).unwrap(), [0xab, 0x01]);
        assert!(text(Encoding::Unspecified).is_err());
    }
}
