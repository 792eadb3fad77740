//! What is measured at a node: from its chain's configuration and the plugin revisions in use to an assignment.
//!
//! Pure, so that what an agent is told can be checked without an agent.

use host_domain::config::ChainConfig;
use host_domain::node::{Node, NodeState};
use host_domain::revision::Revision;
use serde_json::Value;

use super::{CollectorAssignment, NodeAssignment};

/// Whether a node in this state is measured: from the end of its installation to the beginning of its removal.
pub fn is_measured(state: NodeState) -> bool {
    use NodeState as S;
    match state {
        S::Syncing | S::Healthy | S::Degraded | S::Down | S::Maintenance => true,
        S::Provisioning | S::Terminating | S::Terminated | S::Failed => false,
    }
}

/// The collectors of a node. One whose plugin has no revision in use is left out until it has one.
pub fn assign_node<'a>(
    node: &Node,
    chain: &ChainConfig,
    active: impl Fn(&str) -> Option<&'a Revision>,
) -> NodeAssignment {
    let collectors = chain.observation.collectors.iter().filter_map(|used| {
        let revision = active(&used.plugin)?;
        let mut limits = revision.terms.limits.clone();
        if let Some(timeout) = used.timeout {
            limits.wall = timeout;
        }
        Some(CollectorAssignment {
            name: used.name.clone(),
            plugin: used.plugin.clone(),
            component_digest: revision.digest.clone(),
            config: merged(&revision.terms.config, &used.with),
            every: used.every,
            grants: revision.terms.grants.clone(),
            limits,
        })
    });
    NodeAssignment {
        node_id: node.id,
        chain: node.chain_profile_id.clone(),
        node_type: node.node_type.clone(),
        ports: node.ports.clone(),
        collectors: collectors.collect(),
    }
}

/// The plugin's configuration with that of its use on top, key by key at the outermost level.
fn merged(config: &Value, with: &serde_json::Map<String, Value>) -> Value {
    let mut merged = match config {
        Value::Object(map) => map.clone(),
        _ => serde_json::Map::new(),
    };
    merged.extend(with.clone());
    Value::Object(merged)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_use_overrides_its_plugins_configuration() {
        let with = json!({ "timeout": "2s" });
        let merged = merged(
            &json!({ "timeout": "1s", "path": "/" }),
            with.as_object().unwrap(),
        );
        assert_eq!(merged, json!({ "timeout": "2s", "path": "/" }));
    }

    #[test]
    fn nodes_are_measured_from_installation_to_removal() {
        let measured: Vec<&str> = NodeState::ALL
            .iter()
            .filter(|state| is_measured(**state))
            .map(|state| state.as_str())
            .collect();
        assert_eq!(
            measured,
            ["syncing", "healthy", "degraded", "down", "maintenance"]
        );
    }
}
