//! Hands transitions to what follows from them, in order per node. A handler's rows and the end of the event are one
//! transaction, so that each committed transition has its effect exactly once. The same transaction hands the event on to the
//! bus: incidents never wait for it.

use std::time::Duration;

use host_domain::event::{Dimension, HealthTransitionEvent};
use host_domain::incident::{
    Cause, ConditionIncidents, Severity, SubjectKind, category, incidents_of,
};
use host_domain::node::Reason;
use host_domain::notification::node_labels;
use host_domain::time::Millis;

use crate::app::App;
use crate::catalogue::Catalogue;
use crate::ops::{IncidentFilter, OpError, PAGE_MAX, Subject, raise, resolve};
use host_store::{ClaimedEvent, Tx, retried};

/// Events that are claimed at once.
const BATCH: u32 = 100;
/// How long a claim holds; another worker takes over afterwards.
const LEASE: Duration = Duration::from_secs(30);
/// Tries after which an event is put aside (design: domain.md, Outbox).
const ATTEMPTS_MAX: u32 = 10;
/// The longest pause between two tries.
const BACKOFF_MAX: Duration = Duration::from_mins(5);

/// Handles everything that is due.
pub(crate) async fn round(app: App) -> Result<(), OpError> {
    loop {
        let now = app.clock.now();
        let mut tx = app.db.begin().await?;
        let claimed = tx.claim_outbox(&app.worker, now, LEASE, BATCH).await?;
        if claimed.is_empty() {
            // A commit would wake everybody who waits for changes, this task first of all.
            return Ok(tx.rollback().await?);
        }
        tx.commit().await?;
        // Together first: a commit costs more than what is in it. Whatever fails is found by handling one after the other.
        if retried(|| handle(&app, &claimed)).await.is_ok() {
            continue;
        }
        for event in &claimed {
            if let Err(error) = retried(|| handle(&app, std::slice::from_ref(event))).await {
                put_off(&app, event, &error).await?;
            }
        }
    }
}

/// Handles events in one transaction.
async fn handle(app: &App, claimed: &[ClaimedEvent]) -> Result<(), OpError> {
    let now = app.clock.now();
    let catalogue = app.catalogue();
    let mut tx = app.db.begin().await?;
    for claimed in claimed {
        // On the heap: the loop would carry everything that may follow from an event all the time.
        Box::pin(handle_one(&mut tx, &catalogue, claimed, now)).await?;
    }
    Ok(tx.commit().await?)
}

async fn handle_one(
    tx: &mut Tx,
    catalogue: &Catalogue,
    claimed: &ClaimedEvent,
    now: Millis,
) -> Result<(), OpError> {
    let event = &claimed.event;
    // First: of two workers that hold the event, because one was frozen, the second finds it done and does nothing.
    if !tx.finish_outbox(event.id).await? {
        return Ok(());
    }
    let subject = subject_of(event);
    let mut found = incidents_of(event.after, &event.reasons, &event.node_name);
    let mut state = event.after.state;
    if claimed.is_requeued {
        let Some(node) = tx.node(event.node_id).await? else {
            return Ok(());
        };
        state = node.condition.state;
        keep_what_is_true(&mut found, &incidents_of(node.condition, &[], &node.name));
    }
    for category in found.over {
        resolve(tx, catalogue, &subject, category, now).await?;
    }
    if state.is_judged() {
        // It runs again, wherever that is.
        resolve(tx, catalogue, &subject, category::MIGRATION_FAILED, now).await?;
    }
    if state.is_gone() {
        end_with_node(tx, catalogue, &subject, now).await?;
    }
    // Only a step of a dimension that causes incidents counts as an occurrence.
    if event.dimension != Dimension::SyncStatus {
        for cause in &found.causes {
            raise(tx, catalogue, &subject, cause, now).await?;
        }
    }
    if claimed.is_requeued {
        // The bus has had it since it was put aside.
        return Ok(());
    }
    Ok(tx.insert_bus_event(event).await?)
}

/// An event that was put back may be older than what was handled meanwhile: only what still holds is said.
fn keep_what_is_true(found: &mut ConditionIncidents, now: &ConditionIncidents) {
    let holds = |cause: &Cause| now.causes.iter().any(|one| one.category == cause.category);
    found.causes.retain(holds);
    found.over.retain(|category| now.over.contains(category));
}

fn subject_of(event: &HealthTransitionEvent) -> Subject {
    Subject {
        kind: SubjectKind::Node,
        id: event.node_id.to_string(),
        name: event.node_name.clone(),
        labels: node_labels(&event.chain_profile_id, &event.node_type),
    }
}

/// Resolves what is only judged while the node is there.
async fn end_with_node(
    tx: &mut Tx,
    catalogue: &Catalogue,
    subject: &Subject,
    now: Millis,
) -> Result<(), OpError> {
    let filter = IncidentFilter {
        unresolved: true,
        subject_id: Some(subject.id.clone()),
        ..IncidentFilter::default()
    };
    for incident in tx.list_incidents(&filter, None, PAGE_MAX).await? {
        let category = &incident.key.category;
        if category::ends_with_the_node(category) {
            resolve(tx, catalogue, subject, category, now).await?;
        }
    }
    Ok(())
}

/// Tries a failed event again later, or puts it aside and says so.
pub(super) async fn put_off(
    app: &App,
    claimed: &ClaimedEvent,
    error: &OpError,
) -> Result<(), OpError> {
    let now = app.clock.now();
    let event = &claimed.event;
    // The claim has counted this try already.
    let attempts = claimed.attempts;
    let text = format!("{error:#}");
    let mut tx = app.db.begin().await?;
    if attempts < ATTEMPTS_MAX {
        let pause = Duration::from_secs(1 << attempts.min(8)).min(BACKOFF_MAX);
        tx.retry_outbox(event.id, attempts, now.plus(pause), &text)
            .await?;
    } else if tx.to_dead_letter(event.id, &text, now).await? {
        let subject = subject_of(event);
        let cause = Cause {
            category: category::EVENT_DEAD_LETTER.to_owned(),
            severity: Severity::Critical,
            title: format!(
                "a transition of {} could not be handled and was put aside",
                event.node_name
            ),
            reasons: vec![Reason::new("handler_failed", text)],
        };
        raise(&mut tx, &app.catalogue(), &subject, &cause, now).await?;
        // Its incidents are missing, but it happened. The bus has one that was put back.
        if !claimed.is_requeued {
            tx.insert_bus_event(event).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}
