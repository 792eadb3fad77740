//! Looks for workflows in which nothing happens any more, and tells an operator. It mends nothing by itself: what a
//! stalled workflow has half done, only a person can know.

use std::collections::BTreeSet;
use std::time::Duration;

use host_domain::incident::{Cause, IncidentState, Severity, SubjectKind, category};
use host_domain::node::Reason;
use host_domain::time::format_duration;
use host_workflows::{PageRequest, Status, StatusKind};

use crate::app::App;
use crate::ops::{IncidentFilter, OpError, PAGE_MAX, Subject, raise, resolve};

/// Workflows that are read at once.
const PAGE: usize = 200;

/// One round over the workflows at work.
pub(crate) async fn round(app: App) -> Result<(), OpError> {
    let Some(engine) = app.engine() else {
        return Ok(());
    };
    let limit = app.config.workflows.stalled_after;
    let mut stalled = BTreeSet::new();
    let mut after = None;
    loop {
        let request = PageRequest {
            state: Some(StatusKind::Running),
            after,
            limit: PAGE,
        };
        let page = engine
            .list(&request)
            .await
            .map_err(|error| OpError::Unavailable {
                what: "the workflow engine",
                source: error.into(),
            })?;
        let now = app.clock.now();
        for status in page
            .items
            .iter()
            .filter(|status| now.since(status.updated_at) > limit)
        {
            stalled.extend(tell(&app, status, limit).await?);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    end(&app, &stalled).await
}

/// Raises the incident of a stalled workflow, once, and says whom it is about.
async fn tell(app: &App, status: &Status, limit: Duration) -> Result<Option<String>, OpError> {
    let operation = app.db.operation_of_workflow(&status.id).await?;
    let node = match &operation {
        Some(operation) => app.db.node(operation.node_id).await?,
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
    let newest = app
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
    let mut tx = app.db.begin().await?;
    raise(&mut tx, &app.catalogue(), &subject, &cause, app.clock.now()).await?;
    tx.commit().await?;
    Ok(Some(subject.id))
}

/// Resolves the incidents of those that go on, or have ended.
async fn end(app: &App, stalled: &BTreeSet<String>) -> Result<(), OpError> {
    let filter = IncidentFilter {
        unresolved: true,
        category: Some(category::WORKFLOW_STALLED.to_owned()),
        ..IncidentFilter::default()
    };
    for incident in app.db.list_incidents(&filter, None, PAGE_MAX).await? {
        if stalled.contains(&incident.key.subject_id) {
            continue;
        }
        let subject = Subject {
            kind: incident.key.subject_kind,
            id: incident.key.subject_id.clone(),
            name: incident.subject_name.clone(),
            labels: incident.labels.clone(),
        };
        let mut tx = app.db.begin().await?;
        let category = category::WORKFLOW_STALLED;
        resolve(
            &mut tx,
            &app.catalogue(),
            &subject,
            category,
            app.clock.now(),
        )
        .await?;
        tx.commit().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
