//! From a request to the record of a new node: what the chain lets one choose, checked field by field.

use std::collections::BTreeMap;

use host_domain::config::ChainConfig;
use host_domain::config::profile::{Input, NodeType};
use host_domain::ids::{NodeId, SubscriptionId};
use host_domain::node::{Condition, Node, Placement};
use host_domain::time::Millis;
use uuid::Uuid;

use crate::ops::{CreateNode, OpError};

/// Longest name of a node.
const NAME_CHARS_MAX: usize = 63;

/// The record of a node that a request asks for, or what is wrong with the request.
pub(super) fn new_node(
    chain: &ChainConfig,
    request: CreateNode,
    now: Millis,
) -> Result<Node, OpError> {
    let id = NodeId(Uuid::now_v7());
    let request = with_node_type(chain, request);
    let node_type = chain
        .profile
        .node_types
        .get(&request.node_type)
        .ok_or_else(|| {
            let known: Vec<_> = chain
                .profile
                .node_types
                .keys()
                .map(String::as_str)
                .collect();
            OpError::invalid(
                "/node_type",
                format!(
                    "is not a node type of this chain; choose one of: {}",
                    known.join(", ")
                ),
            )
        })?;
    let placement = place(node_type, request.provider, request.region)?;
    check_inputs(&chain.profile.inputs, &request.inputs)?;
    let name = if let Some(name) = request.name {
        checked_name(name)?
    } else {
        let text = id.to_string();
        // The end of a UUID v7 is its random part.
        format!("{}-{}", request.chain, &text[text.len() - 6..])
    };
    Ok(Node {
        id,
        subscription_id: SubscriptionId(Uuid::now_v7()),
        name,
        chain_profile_id: request.chain,
        node_type: request.node_type,
        condition: Condition::NEW,
        reasons: Vec::new(),
        placement,
        ports: BTreeMap::new(),
        binary_versions: chain
            .profile
            .binaries
            .iter()
            .map(|(name, binary)| (name.clone(), binary.version.clone()))
            .collect(),
        inputs: request.inputs,
        operation_id: None,
        state_version: 1,
        created_at: now,
        updated_at: now,
    })
}

fn place(
    node_type: &NodeType,
    provider: Option<String>,
    region: Option<String>,
) -> Result<Placement, OpError> {
    let name = match provider {
        Some(name) => name,
        None => node_type
            .default_providers
            .first()
            .cloned()
            .ok_or_else(|| {
                OpError::invalid("/provider", "must be given: this node type has no default")
            })?,
    };
    let provider = node_type.providers.get(&name).ok_or_else(|| {
        let known: Vec<_> = node_type.providers.keys().map(String::as_str).collect();
        OpError::invalid(
            "/provider",
            format!(
                "is not one of this node type's; choose one of: {}",
                known.join(", ")
            ),
        )
    })?;
    let region = region.unwrap_or_else(|| provider.default_region.clone());
    if !provider.regions.contains(&region) {
        let known = provider.regions.join(", ");
        return Err(OpError::invalid(
            "/region",
            format!("is not one of this provider's; choose one of: {known}"),
        ));
    }
    Ok(Placement {
        provider: name,
        instance_type: provider.instance_type.clone(),
        region,
        host_id: None,
        host_ip: None,
    })
}

/// A chain with one node type leaves no choice, so it need not be made.
fn with_node_type(chain: &ChainConfig, request: CreateNode) -> CreateNode {
    let mut names = chain.profile.node_types.keys();
    match (names.next(), names.next()) {
        (Some(only), None) if request.node_type.is_empty() => {
            let node_type = only.clone();
            CreateNode {
                node_type,
                ..request
            }
        }
        _ => request,
    }
}

fn checked_name(name: String) -> Result<String, OpError> {
    let is_fine = !name.is_empty()
        && name.chars().count() <= NAME_CHARS_MAX
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    // A name that reads as an id could never be told from one.
    if is_fine && name.parse::<NodeId>().is_err() {
        return Ok(name);
    }
    let rule = "must have 1 to 63 small letters, digits and inner dashes, and not look like an id";
    Err(OpError::invalid("/name", rule))
}

fn check_inputs(
    declared: &BTreeMap<String, Input>,
    given: &BTreeMap<String, String>,
) -> Result<(), OpError> {
    if let Some(unknown) = given.keys().find(|name| !declared.contains_key(*name)) {
        return Err(OpError::invalid(
            &format!("/inputs/{unknown}"),
            "is not an input of this chain",
        ));
    }
    for (name, input) in declared {
        let field = format!("/inputs/{name}");
        match given.get(name) {
            None if input.required => {
                return Err(OpError::invalid(&field, "is required by this chain"));
            }
            None => {}
            Some(value) => {
                input
                    .check(value)
                    .map_err(|reason| OpError::invalid(&field, reason))?;
            }
        }
    }
    Ok(())
}
