//! Nodes that somebody began with and nobody goes on with: half-made ones, and those forgotten in maintenance
//! (design: domain.md, Leader election).

use std::time::Duration;

use host_domain::incident::{Cause, IncidentState, Severity, category};
use host_domain::node::{Node, NodeEvent, NodeState, Reason};
use host_domain::operation::OperationKind;
use host_domain::time::format_duration;
use host_workflows::{Engine, StatusKind};

use crate::app::App;
use crate::ops::{
    Change, OpError, Principal, Scope, Subject, change_node, open_operation, raise, resolve,
};
use host_store::NodeFilter;

/// Nodes that are read at once.
const PAGE: u32 = 500;
/// A node that somebody works on shows it within this time.
const HALF_MADE: Duration = Duration::from_mins(10);

/// Every node that is being made or moved has a workflow that works on it.
pub(crate) async fn provisioning(app: App) -> Result<(), OpError> {
    let Some(engine) = app.engine() else {
        return Ok(());
    };
    for node in nodes_in(&app, NodeState::Provisioning, HALF_MADE).await? {
        if let Err(error) = go_on(&app, engine, &node).await {
            // Those behind it must not wait for it.
            tracing::warn!(node.id = %node.id, "a half-made node is cleaned up later: {:#}", anyhow::Error::from(error));
        }
    }
    Ok(())
}

/// Sees to it that somebody works on a half-made node.
async fn go_on(app: &App, engine: &dyn Engine, node: &Node) -> Result<(), OpError> {
    let Some(operation) = open_operation(&app.db, node).await? else {
        let made = match node.operation_id {
            Some(id) => app.db.operation(id).await?,
            None => None,
        };
        // A migration that is over has put its node somewhere in the same transaction.
        if made.is_none_or(|operation| operation.kind == OperationKind::ProvisionNode) {
            tracing::warn!(node.id = %node.id, "nobody makes the node any more; it is removed");
            app.terminate_node(&host(), node.id, None, false).await?;
        }
        return Ok(());
    };
    let status = engine.status(&operation.workflow_id).await;
    let status = status.map_err(|error| OpError::Unavailable {
        what: "the workflow engine",
        source: error.into(),
    })?;
    // One that the engine does not know is started by the watch over workflows.
    let has_ended = status.is_some_and(|status| status.state != StatusKind::Running);
    // It is read again: the end of a workflow is written down before the workflow has ended.
    if has_ended && open_operation(&app.db, node).await?.is_some() {
        tracing::warn!(node.id = %node.id, operation.id = %operation.id, "the workflow ended without its operation; it is begun anew");
        app.begin_anew(&host(), operation).await?;
    }
    Ok(())
}

/// Nodes that are in maintenance for longer than they may: back to work, or to an operator when the agent is silent.
pub(crate) async fn maintenance(app: App) -> Result<(), OpError> {
    let allowance = app.config.health.maintenance_max;
    let timeout = app.config.health.heartbeat.heartbeat_timeout;
    for node in nodes_in(&app, NodeState::Maintenance, allowance).await? {
        let now = app.clock.now();
        let beat = app.db.heartbeat(node.id).await?;
        let mut tx = app.db.begin().await?;
        let subject = Subject::node(&node);
        if beat.is_some_and(|beat| now.since(beat.last_heartbeat) < timeout) {
            let change = Change::event(NodeEvent::MaintenanceEnded);
            match change_node(&mut tx, &node, change, now).await {
                Ok(_) => {}
                // Somebody was faster.
                Err(OpError::Stale { .. }) => continue,
                Err(error) => return Err(error),
            }
            tx.expect_beats(node.id, now).await?;
            resolve(
                &mut tx,
                &app.catalogue(),
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
            "it is in maintenance for more than {}, and its agent is silent; look at the machine",
            format_duration(allowance)
        );
        let cause = Cause {
            category: category::AGENT_SILENT.to_owned(),
            severity: Severity::Warning,
            title: format!("{} does not come back from maintenance", node.name),
            reasons: vec![Reason::new("maintenance_overdue", text)],
        };
        raise(&mut tx, &app.catalogue(), &subject, &cause, now).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Nodes that are in a state for longer than `limit`.
async fn nodes_in(app: &App, state: NodeState, limit: Duration) -> Result<Vec<Node>, OpError> {
    let filter = NodeFilter {
        state: Some(state),
        ..NodeFilter::default()
    };
    let (now, mut found, mut after) = (app.clock.now(), Vec::new(), None);
    loop {
        let page = app.db.list_nodes(&filter, after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        after = Some(last.id);
        let old = page.into_iter();
        found.extend(old.filter(|node| now.since(node.updated_at) > limit));
    }
}

/// Who cleans up.
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
