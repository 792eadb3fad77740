//! Nodes that nothing works on any more: half-provisioned ones, and those in maintenance for too long.

use std::time::Duration;

use host_domain::incident::{Cause, IncidentState, Severity, category};
use host_domain::node::{Node, NodeEvent, NodeState, Reason};
use host_domain::operation::OperationKind;
use host_domain::time::format_duration;
use host_workflows::{Engine, StatusKind};

use super::loops::{Loop, Pace};
use crate::config::HealthConfig;
use crate::ops::{
    Chains, Change, Nodes, OpError, Principal, Records, Scope, Subject, WorkflowEngine,
    change_node, engine_unavailable, open_operation, raise, resolve, restart_workflow,
};
use crate::services::Services;
use host_store::{NodeFilter, Role};

/// Nodes that are read at once.
const PAGE: u32 = 500;
/// An operation on a node shows within this time.
const HALF_MADE: Duration = Duration::from_mins(10);

/// Checks half-provisioned nodes, on the host with the engine.
pub(super) fn provisioning_cleaner(services: &Services) -> Loop {
    let cleaner = ProvisioningCleaner {
        engine: services.engine.clone(),
        nodes: services.nodes(services.records(Role::Orchestrator)),
    };
    let pace = Pace::Every(Duration::from_mins(5));
    Loop::everyone(
        "provisioning cleaner",
        Role::Orchestrator,
        pace,
        move |records| {
            let cleaner = cleaner.clone();
            async move { cleaner.round(&records).await }
        },
    )
}

/// Checks nodes in maintenance, on the leader.
pub(super) fn maintenance_cleaner(services: &Services) -> Loop {
    let (chains, config) = (services.chains.clone(), services.config.health.clone());
    let pace = Pace::Every(Duration::from_mins(5));
    Loop::leader("maintenance cleaner", pace, move |records| {
        let (chains, config) = (chains.clone(), config.clone());
        async move { maintenance(&records, &chains, &config).await }
    })
}

#[derive(Clone)]
struct ProvisioningCleaner {
    engine: WorkflowEngine,
    nodes: Nodes,
}

impl ProvisioningCleaner {
    /// Ensures that every node that is provisioning or migrating has a workflow.
    async fn round(&self, records: &Records) -> Result<(), OpError> {
        let Some(engine) = self.engine.local() else {
            return Ok(());
        };
        for node in nodes_in(records, NodeState::Provisioning, HALF_MADE).await? {
            if let Err(error) = self.check(records, engine, &node).await {
                // Those behind it must not wait for it.
                tracing::warn!(node.id = %node.id, "a half-provisioned node is cleaned up later: {:#}", anyhow::Error::from(error));
            }
        }
        Ok(())
    }

    /// Ensures that a workflow works on a half-provisioned node.
    async fn check(
        &self,
        records: &Records,
        engine: &dyn Engine,
        node: &Node,
    ) -> Result<(), OpError> {
        let Some(operation) = open_operation(&records.db, node).await? else {
            let made = match node.operation_id {
                Some(id) => records.db.operation(id).await?,
                None => None,
            };
            // A migration that is over has put its node somewhere in the same transaction.
            if made.is_none_or(|operation| operation.kind == OperationKind::ProvisionNode) {
                tracing::warn!(node.id = %node.id, "no operation provisions the node any more; the host terminates it");
                self.nodes.terminate(&host(), node.id, None, false).await?;
            }
            return Ok(());
        };
        let status = engine.status(&operation.workflow_id).await;
        let status = status.map_err(engine_unavailable)?;
        // One that the engine does not know is started by the watch over workflows.
        let has_ended = status.is_some_and(|status| status.state != StatusKind::Running);
        // It is read again: the end of a workflow is written down before the workflow has ended.
        if has_ended && open_operation(&records.db, node).await?.is_some() {
            tracing::warn!(node.id = %node.id, operation.id = %operation.id, "the workflow ended without its operation; the host restarts it");
            restart_workflow(records, &self.engine, &host(), operation).await?;
        }
        Ok(())
    }
}

/// Ends the maintenance of nodes that exceed the limit, or raises an incident when their agent is silent.
async fn maintenance(
    records: &Records,
    chains: &Chains,
    config: &HealthConfig,
) -> Result<(), OpError> {
    let allowance = config.maintenance_max;
    let timeout = config.heartbeat.heartbeat_timeout;
    for node in nodes_in(records, NodeState::Maintenance, allowance).await? {
        let now = records.now();
        let beat = records.db.heartbeat(node.id).await?;
        let mut tx = records.db.begin().await?;
        let subject = Subject::node(&node);
        if beat.is_some_and(|beat| now.since(beat.last_heartbeat) < timeout) {
            let change = Change::event(NodeEvent::MaintenanceEnded);
            match change_node(&mut tx, &node, change, now).await {
                Ok(_) => {}
                // The node changed concurrently.
                Err(OpError::Stale { .. }) => continue,
                Err(error) => return Err(error),
            }
            tx.expect_beats(node.id, now).await?;
            resolve(
                &mut tx,
                &chains.catalogue(),
                &subject,
                category::AGENT_SILENT,
                now,
            )
            .await?;
            tx.commit().await?;
            continue;
        }
        let newest = tx
            .newest_incident(&subject.key(category::AGENT_SILENT))
            .await?;
        if newest.is_some_and(|incident| incident.state != IncidentState::Resolved) {
            continue;
        }
        let text = format!(
            "it is in maintenance for more than {}, and its agent is silent; check the machine",
            format_duration(allowance)
        );
        let cause = Cause {
            category: category::AGENT_SILENT.to_owned(),
            severity: Severity::Warning,
            title: format!("{} does not come back from maintenance", node.name),
            reasons: vec![Reason::new("maintenance_overdue", text)],
        };
        raise(&mut tx, &chains.catalogue(), &subject, &cause, now).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Nodes that are in a state for longer than `limit`.
async fn nodes_in(
    records: &Records,
    state: NodeState,
    limit: Duration,
) -> Result<Vec<Node>, OpError> {
    let filter = NodeFilter {
        state: Some(state),
        ..NodeFilter::default()
    };
    let (now, mut found, mut after) = (records.now(), Vec::new(), None);
    loop {
        let page = records.db.list_nodes(&filter, after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        after = Some(last.id);
        let old = page.into_iter();
        found.extend(old.filter(|node| now.since(node.updated_at) > limit));
    }
}

/// The caller in the audit log.
fn host() -> Principal {
    Principal {
        name: "host".to_owned(),
        scopes: [Scope::Admin].into(),
        request: None,
        request_id: None,
    }
}

#[cfg(test)]
mod tests;
