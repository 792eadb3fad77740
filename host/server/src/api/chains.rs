//! `/api/v1/chains`: what nodes can be made of.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Allowed, NodesRead};
use super::extract::At;
use super::page::PageView;
use super::problem::Problem;
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_chains))
        .routes(routes!(get_chain))
}

/// Lists the configured chains.
#[utoipa::path(get, path = "/chains", tag = "chains",
    responses((status = OK, description = "Every chain", body = PageView<ChainView>)))]
async fn list_chains(
    State(app): State<App>,
    _who: Allowed<NodesRead>,
) -> Result<Json<PageView<ChainView>>, Problem> {
    Ok(Json(PageView::whole(
        app.list_chains().into_iter().map(Into::into).collect(),
    )))
}

/// Reads a chain.
#[utoipa::path(get, path = "/chains/{chain}", tag = "chains",
    params(("chain" = String, Path, description = "Chain profile id")),
    responses((status = OK, description = "The chain", body = ChainView)))]
async fn get_chain(
    State(app): State<App>,
    _who: Allowed<NodesRead>,
    At(chain): At<String>,
) -> Result<Json<ChainView>, Problem> {
    Ok(Json(app.chain(&chain)?.into()))
}

/// A chain as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Chain)]
pub struct ChainView {
    /// Chain profile id.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// `mainnet`, `testnet` or `devnet`.
    pub network_type: String,
    /// Family of the chain.
    pub chain_type: String,
    /// Node types, their providers and the providers' regions.
    pub node_types: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Inputs that are asked before provisioning, and whether they are required.
    pub inputs: BTreeMap<String, bool>,
    /// Names of its plugins.
    pub plugins: Vec<String>,
    /// Digest of the configuration that it came with.
    pub version: String,
}

impl From<crate::ops::ChainView> for ChainView {
    fn from(chain: crate::ops::ChainView) -> Self {
        Self {
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
}
