//! From a request to the rows of a new node: its record, and the operation that provisions it.
//!
//! A subscription checks the same request when it is created, and gets its node when it is paid.

use std::collections::BTreeMap;
use std::time::Duration;

use host_domain::config::ChainConfig;
use host_domain::config::profile::{Input, NodeType, Provider};
use host_domain::ids::{NodeId, OperationId, SubscriptionId};
use host_domain::node::{Condition, Node, Placement};
use host_domain::operation::{Operation, OperationKind, OperationState, OperationStep};
use host_domain::time::{Millis, parse_duration};
use host_workflows::node_activities::NodeRef;
use host_workflows::provision_node;
use uuid::Uuid;

use super::operations::log_operation;
use super::{OpError, OperationFilter, PAGE_MAX};
use crate::catalogue::Catalogue;
use crate::config::ProvisioningConfig;
use host_store::{Reader, StoreError, Tx};

/// Longest name of a node.
const NAME_CHARS_MAX: usize = 63;

/// A request for a new node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateNode {
    /// Chain profile id.
    pub chain: String,
    /// One of the profile's node types; empty for the only one.
    pub node_type: String,
    /// For people; generated when absent.
    pub name: Option<String>,
    /// One of the node type's providers; its first default when absent.
    pub provider: Option<String>,
    /// One of the provider's regions; its default when absent.
    pub region: Option<String>,
    /// Values of the profile's inputs.
    pub inputs: BTreeMap<String, String>,
}

/// A requested node, completed from the profile of its chain.
pub(super) struct NewNode {
    pub(super) chain: String,
    pub(super) node_type: String,
    /// Generated when absent.
    pub(super) name: Option<String>,
    pub(super) placement: Placement,
    pub(super) inputs: BTreeMap<String, String>,
}

/// Checks and completes a request. The instance type may depend on the term.
pub(super) fn complete_request(
    chain: &ChainConfig,
    request: CreateNode,
    term: Option<Duration>,
) -> Result<NewNode, OpError> {
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
    Ok(NewNode {
        chain: request.chain,
        node_type: request.node_type,
        name,
        placement,
        inputs: request.inputs,
    })
}

/// The record of a new node. `chain` is the current configuration of its chain.
fn node_record(
    new: NewNode,
    chain: Option<&ChainConfig>,
    subscription_id: SubscriptionId,
    now: Millis,
) -> Node {
    let id = NodeId(Uuid::now_v7());
    let name = new.name.unwrap_or_else(|| {
        let text = id.to_string();
        // The end of a UUID v7 is its random part.
        format!("{}-{}", new.chain, &text[text.len() - 6..])
    });
    let binaries = chain.into_iter().flat_map(|chain| &chain.profile.binaries);
    Node {
        id,
        subscription_id,
        name,
        chain_profile_id: new.chain,
        node_type: new.node_type,
        condition: Condition::NEW,
        reasons: Vec::new(),
        placement: new.placement,
        ports: BTreeMap::new(),
        binary_versions: binaries
            .map(|(name, binary)| (name.clone(), binary.version.clone()))
            .collect(),
        inputs: new.inputs,
        operation_id: None,
        state_version: 1,
        created_at: now,
        updated_at: now,
    }
}

/// A new node and the operation that provisions it.
pub(super) fn begin_node(
    new: NewNode,
    chain: Option<&ChainConfig>,
    subscription: SubscriptionId,
    now: Millis,
) -> (Node, Operation) {
    let node = node_record(new, chain, subscription, now);
    let operation = new_operation(
        &node,
        OperationKind::ProvisionNode,
        provision_node::workflow_id(node.id),
        provision_node::STEPS,
        now,
    );
    let node = Node {
        operation_id: Some(operation.id),
        ..node
    };
    (node, operation)
}

/// Adds a node and the operation that provisions it.
pub(super) async fn insert_begun(
    tx: &mut Tx,
    node: &Node,
    operation: &Operation,
    now: Millis,
) -> Result<(), OpError> {
    tx.insert_node(node)
        .await
        .map_err(|error| name_taken(error, &node.name))?;
    tx.insert_operation(operation).await?;
    log_operation(tx, operation, now).await
}

fn name_taken(error: StoreError, name: &str) -> OpError {
    match error {
        StoreError::Conflict { .. } => OpError::Conflict(format!(
            "a node named `{name}` exists already; choose another name or terminate that one"
        )),
        error => error.into(),
    }
}

/// A new operation on a node.
pub(super) fn new_operation(
    node: &Node,
    kind: OperationKind,
    workflow_id: String,
    steps: &[&str],
    now: Millis,
) -> Operation {
    Operation {
        id: OperationId(Uuid::now_v7()),
        kind,
        node_id: node.id,
        workflow_id,
        state: OperationState::Running,
        steps: steps
            .iter()
            .map(|step| OperationStep::pending(step))
            .collect(),
        error: None,
        created_at: now,
        updated_at: now,
        version: 1,
    }
}

/// The input of the workflow that provisions a node.
pub(super) fn workflow_input(
    node: NodeRef,
    config: &ProvisioningConfig,
) -> provision_node::ProvisionInput {
    let limits = provision_node::ProvisionLimits {
        agent: config.agent_wait,
        install: config.install,
        healthy: config.first_healthy,
        uninstall: config.uninstall,
        ..provision_node::ProvisionLimits::default()
    };
    provision_node::ProvisionInput::new(node, limits)
}

/// The operation that makes a node, or has made it.
pub(super) async fn making_of(reader: &Reader, id: NodeId) -> Result<Option<Operation>, OpError> {
    let filter = OperationFilter {
        node: Some(id),
        state: None,
    };
    let operations = reader.list_operations(&filter, None, PAGE_MAX).await?;
    let mut operations = operations.into_iter();
    Ok(operations.find(|operation| operation.kind == OperationKind::ProvisionNode))
}

/// A chain of the catalogue.
pub(super) fn known_chain<'a>(
    catalogue: &'a Catalogue,
    id: &str,
) -> Result<&'a ChainConfig, OpError> {
    catalogue.chains.chains.get(id).ok_or_else(|| {
        let known: Vec<_> = catalogue.chains.chains.keys().map(String::as_str).collect();
        OpError::invalid(
            "/chain",
            format!("is not a known chain; choose one of: {}", known.join(", ")),
        )
    })
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

/// The instance type for a term; a term without one of its own has the provider's.
fn instance_type(provider: &Provider, term: Option<Duration>) -> &str {
    let of_term = provider
        .by_duration
        .iter()
        .find(|(written, _)| term.is_some() && parse_duration(written).ok() == term);
    of_term.map_or(&provider.instance_type, |(_, machine)| {
        &machine.instance_type
    })
}

/// Fills in the node type of a chain that has only one.
pub(super) fn with_node_type(chain: &ChainConfig, request: CreateNode) -> CreateNode {
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
