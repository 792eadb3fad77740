//! Keys of nodes, for the agent that the node is placed with and for no other.

use host_domain::agent::Agent;
use host_domain::ids::NodeId;
use host_domain::node::Node;
use proto::v1;
use tonic::Status;

use super::inbound::lease_ms;
use super::peer::store_status;
use super::server::Shared;

/// Opens a key of a node on the agent's own host. What is refused is counted and says no more than that.
pub(super) async fn fetch(
    shared: &Shared,
    agent: &Agent,
    request: &v1::FetchKeyRequest,
) -> Result<v1::KeyMaterial, Status> {
    let db = &shared.parts.db;
    let refused = || {
        metrics::counter!("gateway_refused_total", "reason" => "key").increment(1);
        tracing::warn!(agent.id = %agent.id, "an agent asked for a key that is not of its nodes");
        Status::permission_denied(
            "no node of this agent has such a key; the chain's profile declares keys",
        )
    };
    if !request.keeps_leases {
        return Err(Status::failed_precondition(
            "this agent is too old for nodes with keys; update it",
        ));
    }
    let id: NodeId = request.node_id.parse().map_err(|_| refused())?;
    let node = db.node(id).await.map_err(|error| store_status(&error))?;
    let is_own = |node: &Node| {
        node.placement.machine_id == Some(agent.machine_id) && !node.condition.state.is_terminal()
    };
    let node = node.filter(is_own).ok_or_else(refused)?;
    let key = db.node_key(id, &request.name).await;
    let key = match key.map_err(|error| store_status(&error))? {
        Some(key) if key.delete_after.is_none() => key,
        None if (shared.parts.is_key_awaited)(&node, &request.name) => {
            return Err(Status::not_found(
                "a person has to bring this key first: `bellwether key import`",
            ));
        }
        _ => return Err(refused()),
    };
    let opened = (shared.parts.keys)(key).await;
    let material = opened.map_err(|error| {
        let why = &*error.source as &dyn std::error::Error;
        tracing::error!(node.id = %id, key = request.name, error = why, "a key can't be opened");
        if error.may_heal {
            Status::unavailable("the host can't open keys right now; ask again in a few seconds")
        } else {
            Status::internal("the host can't open the key; its log says why")
        }
    })?;
    tracing::info!(agent.id = %agent.id, node.id = %id, key = request.name, "an agent fetched a key");
    Ok(v1::KeyMaterial {
        material,
        lease_ms: lease_ms(shared),
    })
}
