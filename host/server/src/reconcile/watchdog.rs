//! Finds workflows in which nothing happens any more, and raises an incident. It repairs nothing: only a person can know what a
//! stalled workflow has half done.

use std::collections::BTreeSet;
use std::time::Duration;

use host_domain::incident::{Cause, IncidentState, Severity, SubjectKind, category};
use host_domain::node::Reason;
use host_domain::time::format_duration;
use host_workflows::{PageRequest, Status, StatusKind};

use super::loops::{Loop, Pace};
use crate::ops::{
    Chains, IncidentFilter, OpError, PAGE_MAX, Records, Subject, WorkflowEngine,
    engine_unavailable, raise, resolve,
};
use crate::services::Services;
use host_store::Role;

/// Workflows that are read at once.
const PAGE: usize = 200;

/// Checks running workflows, on each host with an engine.
pub(super) fn watchdog(services: &Services) -> Loop {
    let (engine, chains) = (services.engine.clone(), services.chains.clone());
    let limit = services.config.workflows.stalled_after;
    let pace = Pace::Every(Duration::from_mins(1));
    Loop::everyone("watchdog", Role::Orchestrator, pace, move |records| {
        let (engine, chains) = (engine.clone(), chains.clone());
        async move { round(&records, &chains, &engine, limit).await }
    })
}

/// One round over running workflows.
async fn round(
    records: &Records,
    chains: &Chains,
    engine: &WorkflowEngine,
    limit: Duration,
) -> Result<(), OpError> {
    let Some(engine) = engine.local() else {
        return Ok(());
    };
    let mut stalled = BTreeSet::new();
    let mut after = None;
    loop {
        let request = PageRequest {
            state: Some(StatusKind::Running),
            after,
            limit: PAGE,
        };
        let page = engine.list(&request).await.map_err(engine_unavailable)?;
        let now = records.now();
        for status in page
            .items
            .iter()
            .filter(|status| now.since(status.updated_at) > limit)
        {
            stalled.extend(report(records, chains, status, limit).await?);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    resolve_others(records, chains, &stalled).await
}

/// Raises the incident of a stalled workflow, once, and returns its subject.
async fn report(
    records: &Records,
    chains: &Chains,
    status: &Status,
    limit: Duration,
) -> Result<Option<String>, OpError> {
    let operation = records.db.operation_of_workflow(&status.id).await?;
    let node = match &operation {
        Some(operation) => records.db.node(operation.node_id).await?,
        None => None,
    };
    let subject = match &node {
        Some(node) => Subject::node(node),
        None => Subject {
            kind: SubjectKind::Machine,
            id: status.id.clone(),
            name: status.id.clone(),
            labels: std::collections::BTreeMap::new(),
        },
    };
    let newest = records
        .db
        .newest_incident(&subject.key(category::WORKFLOW_STALLED))
        .await?;
    if newest.is_some_and(|incident| incident.state != IncidentState::Resolved) {
        return Ok(Some(subject.id));
    }
    let text = format!(
        "nothing happened in `{}` for {}; `bellwether workflow history {}` shows how far it came",
        status.id,
        format_duration(limit),
        status.id
    );
    let cause = Cause {
        category: category::WORKFLOW_STALLED.to_owned(),
        severity: Severity::Warning,
        title: format!(
            "the workflow {} of {} stands still",
            status.kind, subject.name
        ),
        reasons: vec![Reason::new("workflow_stalled", text)],
    };
    let mut tx = records.db.begin().await?;
    raise(
        &mut tx,
        &chains.catalogue(),
        &subject,
        &cause,
        records.now(),
    )
    .await?;
    tx.commit().await?;
    Ok(Some(subject.id))
}

/// Resolves the incidents of workflows that progress again or have ended.
async fn resolve_others(
    records: &Records,
    chains: &Chains,
    stalled: &BTreeSet<String>,
) -> Result<(), OpError> {
    let filter = IncidentFilter {
        unresolved: true,
        category: Some(category::WORKFLOW_STALLED.to_owned()),
        ..IncidentFilter::default()
    };
    for incident in records.db.list_incidents(&filter, None, PAGE_MAX).await? {
        if stalled.contains(&incident.key.subject_id) {
            continue;
        }
        let subject = Subject {
            kind: incident.key.subject_kind,
            id: incident.key.subject_id.clone(),
            name: incident.subject_name.clone(),
            labels: incident.labels.clone(),
        };
        let mut tx = records.db.begin().await?;
        let category = category::WORKFLOW_STALLED;
        resolve(
            &mut tx,
            &chains.catalogue(),
            &subject,
            category,
            records.now(),
        )
        .await?;
        tx.commit().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
