//! `/api/v1/chains`: what nodes can be made of.

use axum::Json;
use axum::extract::State;
use host_wire::{ChainView, PageView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Ops;
use super::auth::{Allowed, NodesRead};
use super::extract::At;
use super::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Ops> {
    OpenApiRouter::new()
        .routes(routes!(list_chains))
        .routes(routes!(get_chain))
}

/// Lists the configured chains.
#[utoipa::path(get, path = "/chains", tag = "chains",
    responses((status = OK, description = "Every chain", body = PageView<ChainView>)))]
async fn list_chains(
    State(ops): State<Ops>,
    _who: Allowed<NodesRead>,
) -> Result<Json<PageView<ChainView>>, Problem> {
    Ok(Json(PageView::whole(
        ops.chains.list().into_iter().map(chain_view).collect(),
    )))
}

/// Reads a chain.
#[utoipa::path(get, path = "/chains/{chain}", tag = "chains",
    params(("chain" = String, Path, description = "Chain profile id")),
    responses((status = OK, description = "The chain", body = ChainView)))]
async fn get_chain(
    State(ops): State<Ops>,
    _who: Allowed<NodesRead>,
    At(chain): At<String>,
) -> Result<Json<ChainView>, Problem> {
    Ok(Json(chain_view(ops.chains.get(&chain)?)))
}

fn chain_view(chain: crate::ops::ChainView) -> ChainView {
    ChainView {
        id: chain.id,
        display_name: chain.display_name,
        network_type: chain.network_type,
        chain_type: chain.chain_type,
        node_types: chain.node_types,
        inputs: chain.inputs,
        plugins: chain.plugins,
        version: chain.version,
    }
}
