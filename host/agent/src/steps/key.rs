//! `key`: writes a key of the node. The material comes from the host when the step runs and is never kept elsewhere.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::v1 as pb;
use proto::v1::agent_gateway_client::AgentGatewayClient;
use proto::v1::key_file::Encoding;
use zeroize::Zeroizing;

use super::{StepContext, Trace};
use crate::node_root::checked;

/// For its owner only.
const MODE: u32 = 0o600;
/// How long the host may take to answer.
const FETCH_MAX: Duration = Duration::from_secs(30);
/// How long the gateway may be away when the step comes to it.
const LINK_MAX: Duration = Duration::from_mins(2);

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

async fn fetch(ctx: &StepContext, name: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut gateway = ctx.gateway.clone();
    let linked = tokio::time::timeout(LINK_MAX, gateway.wait_for(Option::is_some)).await;
    let channel = linked
        .context("the host could not be reached for the key; let the agent connect, then provision again")?
        .context("the agent is ending")?
        .clone();
    let channel = channel.context("the host can't be reached")?;
    let mut request = tonic::Request::new(pb::FetchKeyRequest {
        node_id: ctx.root.id.to_string(),
        name: name.to_owned(),
    });
    request.set_timeout(FETCH_MAX);
    let answer = AgentGatewayClient::new(channel).fetch_key(request).await;
    let answer = answer.map_err(|status| anyhow::anyhow!("key `{name}`: {}", status.message()))?;
    Ok(Zeroizing::new(answer.into_inner().material))
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
