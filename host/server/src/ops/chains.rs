//! Chains as they are configured.

use std::collections::BTreeMap;

use host_domain::config::ChainConfig;

use super::OpError;
use crate::catalogue::Chains;

/// A chain as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainView {
    /// Chain profile id.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// `mainnet`, `testnet` or `devnet`.
    pub network_type: String,
    /// Family of the chain.
    pub chain_type: String,
    /// Node types and their providers with regions.
    pub node_types: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Names and whether they are required, of inputs asked before provisioning.
    pub inputs: BTreeMap<String, bool>,
    /// Names of the plugins that it declares.
    pub plugins: Vec<String>,
    /// Content digest of the folder version that it came with.
    pub version: String,
}

impl Chains {
    /// Every chain, by id.
    pub fn list(&self) -> Vec<ChainView> {
        let catalogue = self.catalogue();
        let views = catalogue.chains.chains.values();
        views.map(|chain| view(chain, &catalogue.version)).collect()
    }

    /// One chain.
    pub fn get(&self, id: &str) -> Result<ChainView, OpError> {
        let catalogue = self.catalogue();
        let chain = catalogue
            .chains
            .chains
            .get(id)
            .ok_or_else(|| OpError::not_found("chain", id))?;
        Ok(view(chain, &catalogue.version))
    }
}

fn view(chain: &ChainConfig, version: &str) -> ChainView {
    let profile = &chain.profile;
    let node_types = profile.node_types.iter().map(|(name, node_type)| {
        let providers = node_type.providers.iter();
        let regions: BTreeMap<_, _> = providers
            .map(|(name, provider)| (name.clone(), provider.regions.clone()))
            .collect();
        (name.clone(), regions)
    });
    ChainView {
        id: profile.chain_id.clone(),
        display_name: profile.display_name.clone(),
        network_type: profile.network_type.as_str().to_owned(),
        chain_type: profile.chain_type.clone(),
        node_types: node_types.collect(),
        inputs: profile
            .inputs
            .iter()
            .map(|(name, input)| (name.clone(), input.required))
            .collect(),
        plugins: profile.plugins.keys().cloned().collect(),
        version: version.to_owned(),
    }
}
