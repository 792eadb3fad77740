//! From a request to the record of a new node: what the chain lets one choose, checked field by field.
//! A subscription asks the same when it is made, and gets its node when it is paid.

use std::collections::BTreeMap;
use std::time::Duration;

use host_domain::config::ChainConfig;
use host_domain::config::profile::{Input, NodeType, Provider};
use host_domain::ids::{NodeId, SubscriptionId};
use host_domain::node::{Condition, Node, Placement};
use host_domain::time::{Millis, parse_duration};
use uuid::Uuid;

use crate::ops::{CreateNode, OpError};

/// Longest name of a node.
const NAME_CHARS_MAX: usize = 63;

/// What a request asks for, with what it left open filled in from the chain's profile.
pub(in crate::ops) struct Wish {
    pub(in crate::ops) chain: String,
    pub(in crate::ops) node_type: String,
    /// Made up when absent.
    pub(in crate::ops) name: Option<String>,
    pub(in crate::ops) placement: Placement,
    pub(in crate::ops) inputs: BTreeMap<String, String>,
}

/// What a request asks for, or what is wrong with it. Some machines are others for a longer term.
pub(in crate::ops) fn wish(
    chain: &ChainConfig,
    request: CreateNode,
    term: Option<Duration>,
) -> Result<Wish, OpError> {
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
    let placement = place(node_type, request.provider, request.region, term)?;
    check_inputs(&chain.profile.inputs, &request.inputs)?;
    let name = request.name.map(checked_name).transpose()?;
    Ok(Wish {
        chain: request.chain,
        node_type: request.node_type,
        name,
        placement,
        inputs: request.inputs,
    })
}

/// The record of a node that somebody wishes. `chain` is what is known of its chain now.
pub(in crate::ops) fn new_node(
    wish: Wish,
    chain: Option<&ChainConfig>,
    subscription_id: SubscriptionId,
    now: Millis,
) -> Node {
    let id = NodeId(Uuid::now_v7());
    let name = wish.name.unwrap_or_else(|| {
        let text = id.to_string();
        // The end of a UUID v7 is its random part.
        format!("{}-{}", wish.chain, &text[text.len() - 6..])
    });
    let binaries = chain.into_iter().flat_map(|chain| &chain.profile.binaries);
    Node {
        id,
        subscription_id,
        name,
        chain_profile_id: wish.chain,
        node_type: wish.node_type,
        condition: Condition::NEW,
        reasons: Vec::new(),
        placement: wish.placement,
        ports: BTreeMap::new(),
        binary_versions: binaries
            .map(|(name, binary)| (name.clone(), binary.version.clone()))
            .collect(),
        inputs: wish.inputs,
        operation_id: None,
        state_version: 1,
        created_at: now,
        updated_at: now,
    }
}

fn place(
    node_type: &NodeType,
    provider: Option<String>,
    region: Option<String>,
    term: Option<Duration>,
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
        instance_type: instance_type(provider, term).to_owned(),
        region,
        machine_id: None,
        machine_ip: None,
    })
}

/// The machine for a term; terms without one of their own have the provider's.
fn instance_type(provider: &Provider, term: Option<Duration>) -> &str {
    let of_term = provider
        .by_duration
        .iter()
        .find(|(written, _)| term.is_some() && parse_duration(written).ok() == term);
    of_term.map_or(&provider.instance_type, |(_, machine)| {
        &machine.instance_type
    })
}

/// A chain with one node type leaves no choice, so it need not be made.
pub(in crate::ops) fn with_node_type(chain: &ChainConfig, request: CreateNode) -> CreateNode {
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
