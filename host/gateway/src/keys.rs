//! Gives the keys of nodes to their agents.

use host_domain::agent::Agent;
use host_domain::ids::NodeId;
use host_domain::node::Node;
use proto::v1;
use tonic::Status;

use crate::metrics;
use crate::parts::KeyOpenError;
use crate::peer::store_status;
use crate::shared::Shared;

/// Opens a key of a node on the agent's own machine. Every refusal has the same answer, so it reveals nothing.
pub(crate) async fn fetch(
    shared: &Shared,
    agent: &Agent,
    request: &v1::FetchKeyRequest,
) -> Result<v1::KeyMaterial, Status> {
    let store = shared.store();
    let id: NodeId = request.node_id.parse().map_err(|_| refused(agent))?;
    let node = store.node(id).await.map_err(|error| store_status(&error))?;
    let is_own = |node: &Node| {
        node.placement.machine_id == Some(agent.machine_id) && !node.condition.state.is_terminal()
    };
    let node = node.filter(is_own).ok_or_else(|| refused(agent))?;
    let key = store.node_key(id, &request.name).await;
    let key = match key.map_err(|error| store_status(&error))? {
        Some(key) if key.delete_after.is_none() => key,
        None if (shared.parts.awaits_key_import)(&node, &request.name) => {
            return Err(Status::not_found(
                "a person must import this key first: `bellwether key import`",
            ));
        }
        _ => return Err(refused(agent)),
    };
    let opened = (shared.parts.keys)(key).await;
    let mut material = opened.map_err(|error| open_status(id, &request.name, &error))?;
    tracing::info!(agent.id = %agent.id, node.id = %id, key = request.name, "an agent fetched a key");
    Ok(v1::KeyMaterial {
        material: std::mem::take(&mut *material),
        lease_ms: shared.lease_ms(),
    })
}

fn refused(agent: &Agent) -> Status {
    metrics::refused("key", 1);
    tracing::warn!(agent.id = %agent.id, "refused a key that does not belong to a node of the agent");
    Status::permission_denied(
        "no node of this agent has such a key; the chain's profile declares keys",
    )
}

fn open_status(node_id: NodeId, name: &str, error: &KeyOpenError) -> Status {
    let cause = &*error.source as &dyn std::error::Error;
    tracing::error!(node.id = %node_id, key = name, error = cause, "can't open a key");
    if error.is_transient {
        Status::unavailable("the host can't open keys now; retry in a few seconds")
    } else {
        Status::internal("the host can't open the key; its log has the cause")
    }
}
