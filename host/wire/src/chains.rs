//! Chains in JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
