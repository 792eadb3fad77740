//! `key`: writes a key of the node. The agent fetches the material when the step runs and stores it nowhere else.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::v1 as pb;
use proto::v1::agent_gateway_client::AgentGatewayClient;
use proto::v1::key_file::Encoding;
use tonic::{Code, Status};
use zeroize::Zeroizing;

use super::{Payload, Step, StepContext, Trace};
use crate::lease;
use crate::node_root::checked;
use crate::time;

/// Only the owner may read the key.
const MODE: u32 = 0o600;
/// How long the host may take to answer.
const FETCH_MAX: Duration = Duration::from_secs(30);
/// How long the host may be unavailable.
const UNAVAILABLE_MAX: Duration = Duration::from_mins(2);
/// The wait before the second request.
const RETRY_BASE: Duration = Duration::from_millis(500);
/// How often the agent polls for a key that a person must import.
const IMPORT_POLL: Duration = Duration::from_secs(2);
/// The longest wait between requests.
const RETRY_MAX: Duration = Duration::from_secs(10);

#[async_trait]
impl Step for pb::KeyFile {
    fn kind(&self) -> &'static str {
        "key"
    }

    fn plan(&self, ctx: &StepContext) -> anyhow::Result<Payload> {
        let mut trace = Trace::default();
        let path = checked(&self.path)?;
        if !ctx.root.has(&path) {
            trace.will_create(&ctx.root, &path)?;
        }
        trace.into_payload()
    }

    async fn execute(&self, ctx: &StepContext) -> anyhow::Result<()> {
        let path = checked(&self.path)?;
        let material = fetch(ctx, &self.name).await?;
        let content = encode(&material, self.encoding())?;
        ctx.root.create_parents(&path)?;
        ctx.root.write(&path, &content, MODE)?;
        Ok(())
    }

    /// A key never changes under its name, so an existing file contains the key.
    async fn is_done(&self, ctx: &StepContext) -> anyhow::Result<bool> {
        Ok(ctx.root.has(&checked(&self.path)?))
    }
}

/// Fetches a key. Polls for a key that a person must import; the step's timeout limits the wait.
async fn fetch(ctx: &StepContext, name: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    loop {
        if let Some(material) = fetch_if_present(ctx, name).await? {
            return Ok(material);
        }
        time::sleep(IMPORT_POLL).await;
    }
}

/// Fetches a key; `None` until a person has imported it. Retries while the host is unavailable, because a restart of the
/// host must not fail an installation.
async fn fetch_if_present(
    ctx: &StepContext,
    name: &str,
) -> anyhow::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut last = None;
    let fetched = tokio::time::timeout(UNAVAILABLE_MAX, async {
        let mut attempt = 0;
        loop {
            match fetch_once(ctx, name).await? {
                Ok(material) => return Ok(Some(material)),
                Err(status) if status.code() == Code::NotFound => return Ok(None),
                Err(status) if is_temporary(status.code()) => last = Some(status),
                Err(status) => anyhow::bail!("the host refused key `{name}`: {}", status.message()),
            }
            time::sleep(time::backoff(RETRY_BASE, RETRY_MAX, attempt)).await;
            attempt += 1;
        }
    })
    .await;
    fetched.unwrap_or_else(|_| {
        let why = last.map_or(String::new(), |status| format!(" ({})", status.message()));
        anyhow::bail!(
            "the host was unreachable, so the agent could not fetch key `{name}`{why}; \
             restore the connection, then provision the node again"
        )
    })
}

async fn fetch_once(
    ctx: &StepContext,
    name: &str,
) -> anyhow::Result<Result<Zeroizing<Vec<u8>>, Status>> {
    let mut gateway = ctx.gateway.clone();
    let linked = gateway.wait_for(Option::is_some).await;
    let channel = linked.context("the agent is shutting down")?.clone();
    let mut request = tonic::Request::new(pb::FetchKeyRequest {
        node_id: ctx.root.id.to_string(),
        name: name.to_owned(),
    });
    request.set_timeout(FETCH_MAX);
    let channel = channel.context("the host is unreachable")?;
    let requested_at = lease::now();
    let answer = AgentGatewayClient::new(channel).fetch_key(request).await;
    let answer = match answer {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Ok(Err(status)),
    };
    let material = Zeroizing::new(answer.material);
    // Before the key: a node that has the key must have the lease.
    lease::begin(
        &ctx.root,
        requested_at,
        Duration::from_millis(answer.lease_ms),
    )
    .context("the agent can't write the key's lease")?;
    Ok(Ok(material))
}

/// Whether a retry may succeed. tonic reports an interrupted connection as `Unknown` or `Internal`.
fn is_temporary(code: Code) -> bool {
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

fn encode(material: &[u8], encoding: Encoding) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let bytes = match encoding {
        Encoding::Hex => hex::encode(material).into_bytes(),
        Encoding::Base64 => STANDARD.encode(material).into_bytes(),
        Encoding::Raw => material.to_vec(),
        Encoding::Unspecified => {
            anyhow::bail!("this agent does not know the key's encoding; update the agent")
        }
    };
    Ok(Zeroizing::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_in_each_encoding() {
        let text = |encoding| encode(&[0xab, 0x01], encoding).map(|bytes| bytes.to_vec());
        assert_eq!(text(Encoding::Hex).unwrap(), b"ab01");
        assert_eq!(text(Encoding::Base64).unwrap(), b"qwE=");
        assert_eq!(text(Encoding::Raw).unwrap(), [0xab, 0x01]);
        assert!(text(Encoding::Unspecified).is_err());
    }
}
