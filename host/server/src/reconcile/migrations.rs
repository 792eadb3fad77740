//! Migrates nodes that stay down: a page of facts, one pure choice, and an operation for each chosen node.
//!
//! If so many nodes of a region are down together that the cause must be the network or the host, none is migrated and an incident
//! is raised; also if no machine can take a node.

use std::collections::BTreeMap;
use std::sync::Arc;

use host_domain::incident::{Cause, IncidentState, Severity, SubjectKind, category};
use host_domain::migration::{Candidate, MigrationConfig, Region, RegionHealth, choose};
use host_domain::node::{Node, NodeState, Reason};

use super::loops::{Loop, Pace};
use crate::ops::{
    Chains, IncidentFilter, Machines, NO_TARGET, OpError, PAGE_MAX, Records, Subject,
    WorkflowEngine, begin_migration, candidate, open_count, open_operation, raise, region_health,
    resolve,
};
use crate::services::Services;
use host_store::{NodeFilter, retried};

/// Nodes that are read at once.
const PAGE: u32 = 500;

/// Migrates nodes that stay down, on the leader.
pub(super) fn automatic_migrations(services: &Services) -> Loop {
    let migrator = Migrator::of(services);
    let pace = Pace::Every(services.config.health.heartbeat.evaluation_interval);
    Loop::leader("migrations", pace, move |records| {
        let migrator = migrator.clone();
        async move { migrator.round(&records).await }
    })
}

#[derive(Clone)]
struct Migrator {
    chains: Chains,
    machines: Machines,
    engine: WorkflowEngine,
    config: Arc<MigrationConfig>,
}

impl Migrator {
    fn of(services: &Services) -> Self {
        Self {
            chains: services.chains.clone(),
            machines: services.machines.clone(),
            engine: services.engine.clone(),
            config: Arc::new(services.config.migration.clone()),
        }
    }

    /// One round.
    async fn round(&self, records: &Records) -> Result<(), OpError> {
        let down = self.nodes_down(records).await?;
        let is_needed = self.config.automatic && !down.is_empty();
        // The whole fleet is only looked at when something may have to move.
        let regions = if is_needed {
            region_health(&records.db).await?
        } else {
            BTreeMap::new()
        };
        self.report_outages(records, &regions).await?;
        if !is_needed {
            return Ok(());
        }
        let now = records.now();
        let n_open = open_count(&records.db).await?;
        let candidates: Vec<Candidate> = down
            .iter()
            .map(|(_, candidate)| candidate.clone())
            .collect();
        for id in choose(&candidates, &regions, n_open, now, &self.config) {
            let Some((node, _)) = down.iter().find(|(node, _)| node.id == id) else {
                continue;
            };
            match retried(|| self.start(records, node)).await {
                // The node changed concurrently: the next round reads it again.
                Ok(()) | Err(OpError::Stale { .. } | OpError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Nodes that are down, on a machine, and not worked on.
    async fn nodes_down(&self, records: &Records) -> Result<Vec<(Node, Candidate)>, OpError> {
        let filter = NodeFilter {
            state: Some(NodeState::Down),
            ..NodeFilter::default()
        };
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = records.db.list_nodes(&filter, after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(found);
            };
            after = Some(last.id);
            for node in page {
                let is_somewhere =
                    node.placement.machine_id.is_some() && self.machines.is_movable(&node);
                if is_somewhere && open_operation(&records.db, &node).await?.is_none() {
                    let candidate = candidate(&records.db, &node).await?;
                    found.push((node, candidate));
                }
            }
        }
    }

    async fn start(&self, records: &Records, seen: &Node) -> Result<(), OpError> {
        let now = records.now();
        let mut tx = records.db.begin().await?;
        tx.hold_node(seen.id).await?;
        let node = tx.node(seen.id).await?;
        let node = node.ok_or_else(|| OpError::not_found("node", seen.id))?;
        if node.state_version != seen.state_version || open_operation(&tx, &node).await?.is_some() {
            return Err(OpError::stale("node", node.id));
        }
        if !self.machines.can_take(&tx, &node, now).await? {
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
            if !is_open(records, &subject, &cause.category).await? {
                raise(&mut tx, &self.chains.catalogue(), &subject, &cause, now).await?;
                tx.commit().await?;
            }
            return Ok(());
        }
        let operation = begin_migration(&mut tx, &self.machines, &node, false, now).await?;
        tx.commit().await?;
        tracing::info!(node.id = %node.id, operation.id = %operation.id, "a node that stays down is moved");
        self.engine.start(&operation).await
    }

    /// Raises one incident for each region whose breaker is open; it resolves with the outage.
    async fn report_outages(
        &self,
        records: &Records,
        regions: &BTreeMap<Region, RegionHealth>,
    ) -> Result<(), OpError> {
        let now = records.now();
        let percent = self.config.breaker_percent;
        for (region, health) in regions
            .iter()
            .filter(|(_, health)| health.is_outage(percent))
        {
            let subject = subject(&region.to_string());
            if is_open(records, &subject, category::MIGRATION_HELD).await? {
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
            let mut tx = records.db.begin().await?;
            raise(&mut tx, &self.chains.catalogue(), &subject, &cause, now).await?;
            tx.commit().await?;
        }
        let filter = IncidentFilter {
            unresolved: true,
            category: Some(category::MIGRATION_HELD.to_owned()),
            ..IncidentFilter::default()
        };
        for incident in records.db.list_incidents(&filter, None, PAGE_MAX).await? {
            let id = &incident.key.subject_id;
            let is_over = |(region, health): (&Region, &RegionHealth)| {
                region.to_string() == *id && health.is_outage(percent)
            };
            if regions.iter().any(is_over) {
                continue;
            }
            let mut tx = records.db.begin().await?;
            resolve(
                &mut tx,
                &self.chains.catalogue(),
                &subject(id),
                category::MIGRATION_HELD,
                now,
            )
            .await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

async fn is_open(records: &Records, subject: &Subject, category: &str) -> Result<bool, OpError> {
    let newest = records.db.newest_incident(&subject.key(category)).await?;
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
