//! Handles transitions of nodes, in order per node. The rows of a handler and the end of the event are one transaction, so that each
//! committed transition has its effect exactly once. The same transaction queues the event for the bus: incidents never wait for
//! the bus.

use std::time::Duration;

use host_domain::event::{Dimension, HealthTransitionEvent};
use host_domain::incident::{
    Cause, ConditionIncidents, Severity, SubjectKind, category, incidents_of,
};
use host_domain::node::Reason;
use host_domain::notification::node_labels;
use host_domain::time::Millis;

use super::loops::{Loop, Pace};
use crate::catalogue::Catalogue;
use crate::ops::{Chains, IncidentFilter, OpError, PAGE_MAX, Records, Subject, raise, resolve};
use crate::services::Services;
use host_store::{ClaimedEvent, Role, Tx, retried};

/// Events that are claimed at once.
const BATCH: u32 = 100;
/// How long a claim holds; another worker takes over afterwards.
const LEASE: Duration = Duration::from_secs(30);
/// Attempts after which an event becomes a dead letter.
const ATTEMPTS_MAX: u32 = 10;
/// The longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_mins(5);

/// Handles transitions, on every host.
pub(super) fn outbox(services: &Services) -> Loop {
    let chains = services.chains.clone();
    let pace = Pace::OnChange(services.config.events.poll_interval);
    Loop::everyone("outbox", Role::Health, pace, move |records| {
        let chains = chains.clone();
        async move { round(&records, &chains).await }
    })
}

/// Handles everything that is due.
pub(super) async fn round(records: &Records, chains: &Chains) -> Result<(), OpError> {
    loop {
        let now = records.now();
        let mut tx = records.db.begin().await?;
        let claimed = tx.claim_outbox(&records.worker, now, LEASE, BATCH).await?;
        if claimed.is_empty() {
            // A commit would wake everybody who waits for changes, this task first of all.
            return Ok(tx.rollback().await?);
        }
        tx.commit().await?;
        // Together first: a commit costs more than what is in it. Whatever fails is found by handling one after the other.
        if retried(|| handle(records, chains, &claimed)).await.is_ok() {
            continue;
        }
        for event in &claimed {
            if let Err(error) =
                retried(|| handle(records, chains, std::slice::from_ref(event))).await
            {
                put_off(records, chains, event, &error).await?;
            }
        }
    }
}

/// Handles events in one transaction.
async fn handle(
    records: &Records,
    chains: &Chains,
    claimed: &[ClaimedEvent],
) -> Result<(), OpError> {
    let now = records.now();
    let catalogue = chains.catalogue();
    let mut tx = records.db.begin().await?;
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
        keep_current(&mut found, &incidents_of(node.condition, &[], &node.name));
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

/// A requeued event may be older than events that were handled meanwhile: only incidents that still apply are kept.
fn keep_current(found: &mut ConditionIncidents, now: &ConditionIncidents) {
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

/// Retries a failed event later, or makes it a dead letter with an incident.
pub(super) async fn put_off(
    records: &Records,
    chains: &Chains,
    claimed: &ClaimedEvent,
    error: &OpError,
) -> Result<(), OpError> {
    let now = records.now();
    let event = &claimed.event;
    // The claim has counted this try already.
    let attempts = claimed.attempts;
    let text = format!("{error:#}");
    let mut tx = records.db.begin().await?;
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
        raise(&mut tx, &chains.catalogue(), &subject, &cause, now).await?;
        // Its incidents are missing, but it happened. The bus has one that was put back.
        if !claimed.is_requeued {
            tx.insert_bus_event(event).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}
