//! Moves nodes that stay down to other machines: a page of facts, one pure choice, and a row for each that is chosen.
//!
//! When so many of a region are down together that it must be the network or us, none is moved and an operator is told;
//! the same when a node should move and nobody can take it.

use std::collections::BTreeMap;

use host_domain::incident::{Cause, IncidentState, Severity, SubjectKind, category};
use host_domain::migration::{Candidate, Region, RegionHealth, choose};
use host_domain::node::{Node, NodeState, Reason};

use crate::app::App;
use crate::ops::{
    IncidentFilter, NO_TARGET, OpError, PAGE_MAX, Subject, candidate, open_count, open_operation,
    raise, resolve,
};
use host_store::{NodeFilter, retried};

/// Nodes that are read at once.
const PAGE: u32 = 500;

/// One round.
pub(crate) async fn round(app: App) -> Result<(), OpError> {
    let down = nodes_down(&app).await?;
    let is_wanted = app.config.migration.automatic && !down.is_empty();
    // The whole fleet is only looked at when something may have to move.
    let regions = if is_wanted {
        app.region_health(&app.db).await?
    } else {
        BTreeMap::new()
    };
    tell_of_outages(&app, &regions).await?;
    if !is_wanted {
        return Ok(());
    }
    let now = app.clock.now();
    let n_open = open_count(&app.db).await?;
    let candidates: Vec<Candidate> = down
        .iter()
        .map(|(_, candidate)| candidate.clone())
        .collect();
    for id in choose(&candidates, &regions, n_open, now, &app.config.migration) {
        let Some((node, _)) = down.iter().find(|(node, _)| node.id == id) else {
            continue;
        };
        match retried(|| start(&app, node)).await {
            // Somebody was faster: the next round looks again.
            Ok(()) | Err(OpError::Stale { .. } | OpError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Nodes that are down, on a machine, and not worked on.
async fn nodes_down(app: &App) -> Result<Vec<(Node, Candidate)>, OpError> {
    let filter = NodeFilter {
        state: Some(NodeState::Down),
        ..NodeFilter::default()
    };
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = app.db.list_nodes(&filter, after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        after = Some(last.id);
        for node in page {
            let is_somewhere = node.placement.machine_id.is_some() && app.is_movable(&node);
            if is_somewhere && open_operation(&app.db, &node).await?.is_none() {
                let candidate = candidate(&app.db, &node).await?;
                found.push((node, candidate));
            }
        }
    }
}

async fn start(app: &App, seen: &Node) -> Result<(), OpError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    tx.hold_node(seen.id).await?;
    let node = tx.node(seen.id).await?;
    let node = node.ok_or_else(|| OpError::not_found("node", seen.id))?;
    if node.state_version != seen.state_version || open_operation(&tx, &node).await?.is_some() {
        return Err(OpError::stale("node", node.id));
    }
    if !app.can_take(&tx, &node, now).await? {
        let cause = Cause {
            category: category::MIGRATION_FAILED.to_owned(),
            severity: Severity::Critical,
            title: format!(
                "{} should move to another machine, and there is none",
                node.name
            ),
            reasons: vec![Reason::new("no_target", NO_TARGET)],
        };
        let subject = Subject::node(&node);
        if !is_open(app, &subject, &cause.category).await? {
            raise(&mut tx, &app.catalogue(), &subject, &cause, now).await?;
            tx.commit().await?;
        }
        return Ok(());
    }
    let operation = app.begin_migration(&mut tx, &node, false, now).await?;
    tx.commit().await?;
    tracing::info!(node.id = %node.id, operation.id = %operation.id, "a node that stays down is moved");
    app.start_workflow(&operation).await
}

/// One incident for each region whose breaker is open; it ends with the outage.
async fn tell_of_outages(
    app: &App,
    regions: &BTreeMap<Region, RegionHealth>,
) -> Result<(), OpError> {
    let now = app.clock.now();
    let percent = app.config.migration.breaker_percent;
    for (region, health) in regions
        .iter()
        .filter(|(_, health)| health.is_outage(percent))
    {
        let subject = subject(&region.to_string());
        if is_open(app, &subject, category::MIGRATION_HELD).await? {
            continue;
        }
        let text = format!(
            "{} of {} nodes of {region} are down together; above {percent} % it is taken for an outage of the network or of this host, and none of them is moved by itself",
            health.down, health.nodes
        );
        let cause = Cause {
            category: category::MIGRATION_HELD.to_owned(),
            severity: Severity::Critical,
            title: format!("no node of {region} is moved"),
            reasons: vec![Reason::new("breaker_open", text)],
        };
        let mut tx = app.db.begin().await?;
        raise(&mut tx, &app.catalogue(), &subject, &cause, now).await?;
        tx.commit().await?;
    }
    let filter = IncidentFilter {
        unresolved: true,
        category: Some(category::MIGRATION_HELD.to_owned()),
        ..IncidentFilter::default()
    };
    for incident in app.db.list_incidents(&filter, None, PAGE_MAX).await? {
        let id = &incident.key.subject_id;
        let is_over = |(region, health): (&Region, &RegionHealth)| {
            region.to_string() == *id && health.is_outage(percent)
        };
        if regions.iter().any(is_over) {
            continue;
        }
        let mut tx = app.db.begin().await?;
        resolve(
            &mut tx,
            &app.catalogue(),
            &subject(id),
            category::MIGRATION_HELD,
            now,
        )
        .await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn is_open(app: &App, subject: &Subject, category: &str) -> Result<bool, OpError> {
    let newest = app.db.newest_incident(&subject.key(category)).await?;
    Ok(newest.is_some_and(|incident| incident.state != IncidentState::Resolved))
}

fn subject(region: &str) -> Subject {
    Subject {
        kind: SubjectKind::Machine,
        id: region.to_owned(),
        name: region.to_owned(),
        labels: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests;
