//! Incidents: raised once per cause, notified to receivers, acknowledged and resolved by people.

use std::collections::BTreeMap;

use host_domain::ids::{IncidentId, NotificationId};
use host_domain::incident::{
    Cause, Incident, IncidentEvent, IncidentKey, IncidentState, SubjectKind, on_cause,
};
use host_domain::notification::{DeliveryState, Notification, NotificationStatus, plan};
use host_domain::time::Millis;
use uuid::Uuid;

use super::audit::audit;
use super::incident_subject::Subject;
use super::live::{IncidentMoved, IncidentSubject, LiveData};
use super::records::Records;
use super::{OpError, Page, PageRequest, Principal};
use crate::catalogue::{Catalogue, Chains};
use host_store::{IncidentHistoryEntry, Tx, retried};

pub use host_store::{IncidentFilter, IncidentHistoryEntry as IncidentHistoryRow};

/// Newest notifications of an incident that are read to know which routes were notified.
const NOTIFICATIONS_MAX: u32 = 200;
/// Lines of an incident's history that are shown.
const HISTORY_MAX: u32 = 500;

/// Raises an incident for a cause, or counts the cause on the one that is there.
pub(crate) async fn raise(
    tx: &mut Tx,
    catalogue: &Catalogue,
    subject: &Subject,
    cause: &Cause,
    now: Millis,
) -> Result<Incident, OpError> {
    let key = subject.key(&cause.category);
    let existing = tx.newest_incident(&key).await?;
    let event = on_cause(
        existing
            .as_ref()
            .map(|found| (found.state, found.resolved_at)),
        now,
    );
    let incident = match (event, existing) {
        (IncidentEvent::Opened, _) | (_, None) => {
            let incident = opened(subject, key, cause, now);
            tx.insert_incident(&incident).await?;
            incident
        }
        (event, Some(found)) => {
            let next = Incident {
                state: found.state.next(event)?,
                severity: cause.severity.max(found.severity),
                title: cause.title.clone(),
                reasons: cause.reasons.clone(),
                occurrences: found.occurrences.saturating_add(1),
                resolved_at: None,
                updated_at: now,
                ..found
            };
            update(tx, next).await?
        }
    };
    let entry = entry(&incident, event, "host", cause.title.clone(), now);
    record(tx, catalogue, &incident, entry).await?;
    Ok(incident)
}

/// Resolves the incident of a subject and category, when there is one that is not resolved.
pub(crate) async fn resolve(
    tx: &mut Tx,
    catalogue: &Catalogue,
    subject: &Subject,
    category: &str,
    now: Millis,
) -> Result<(), OpError> {
    match tx.newest_incident(&subject.key(category)).await? {
        Some(incident) if incident.state != IncidentState::Resolved => step(
            tx,
            catalogue,
            incident,
            IncidentEvent::Resolved,
            "host",
            now,
        )
        .await
        .map(drop),
        Some(_) | None => Ok(()),
    }
}

/// Applies one event to an incident, with its history, notifications and live event.
pub(crate) async fn step(
    tx: &mut Tx,
    catalogue: &Catalogue,
    incident: Incident,
    event: IncidentEvent,
    actor: &str,
    now: Millis,
) -> Result<Incident, OpError> {
    let state = incident.state.next(event)?;
    let resolved_at = (state == IncidentState::Resolved).then_some(now);
    let acknowledged_by = match event {
        IncidentEvent::Acknowledged => Some(actor.to_owned()),
        _ => incident.acknowledged_by.clone(),
    };
    let next = Incident {
        state,
        resolved_at,
        acknowledged_by,
        updated_at: now,
        ..incident
    };
    let next = update(tx, next).await?;
    let entry = entry(&next, event, actor, format!("{event} by {actor}"), now);
    record(tx, catalogue, &next, entry).await?;
    Ok(next)
}

fn opened(subject: &Subject, key: IncidentKey, cause: &Cause, now: Millis) -> Incident {
    Incident {
        id: IncidentId(Uuid::now_v7()),
        key,
        subject_name: subject.name.clone(),
        labels: subject.labels.clone(),
        severity: cause.severity,
        state: IncidentState::Open,
        title: cause.title.clone(),
        reasons: cause.reasons.clone(),
        occurrences: 1,
        opened_at: now,
        updated_at: now,
        acknowledged_by: None,
        resolved_at: None,
        version: 1,
    }
}

async fn update(tx: &mut Tx, incident: Incident) -> Result<Incident, OpError> {
    let version = tx
        .update_incident(&incident)
        .await?
        .ok_or_else(|| OpError::stale("incident", incident.id))?;
    Ok(Incident {
        version,
        ..incident
    })
}

fn entry(
    incident: &Incident,
    event: IncidentEvent,
    actor: &str,
    message: String,
    now: Millis,
) -> IncidentHistoryEntry {
    IncidentHistoryEntry {
        id: Uuid::now_v7().to_string(),
        incident_id: incident.id,
        event,
        actor: actor.to_owned(),
        at: now,
        message,
    }
}

/// Writes history, notifications and the live event in the transaction that decided them.
async fn record(
    tx: &mut Tx,
    catalogue: &Catalogue,
    incident: &Incident,
    entry: IncidentHistoryEntry,
) -> Result<(), OpError> {
    tx.append_incident_event(&entry).await?;
    let (event, now) = (entry.event, entry.at);
    notify(tx, catalogue, incident, event, now).await?;
    if event == IncidentEvent::Repeated {
        return Ok(());
    }
    let subject = &incident.key;
    let node_id = (subject.subject_kind == SubjectKind::Node)
        .then(|| subject.subject_id.parse().ok())
        .flatten();
    let moved = IncidentMoved {
        id: incident.id,
        event,
        state: incident.state,
        severity: incident.severity,
        category: subject.category.clone(),
        title: incident.title.clone(),
        subject: IncidentSubject {
            kind: subject.subject_kind,
            id: subject.subject_id.clone(),
            name: incident.subject_name.clone(),
        },
    };
    let chain = incident.labels.get("chain").cloned();
    tx.append_event_log(LiveData::Incident(moved).entry(node_id, chain, now));
    Ok(())
}

/// Adds the notifications that the event requires. A route that was not notified of an incident gets no notification of its end.
async fn notify(
    tx: &mut Tx,
    catalogue: &Catalogue,
    incident: &Incident,
    event: IncidentEvent,
    now: Millis,
) -> Result<(), OpError> {
    let mut notified: BTreeMap<String, NotificationStatus> = BTreeMap::new();
    if event == IncidentEvent::Resolved {
        tx.remove_from_pending(incident.id, NotificationStatus::Firing)
            .await?;
        for sent in tx
            .notifications_of(incident.id, None, NOTIFICATIONS_MAX)
            .await?
        {
            notified.entry(sent.route).or_insert(sent.status);
        }
    }
    for planned in plan(incident, event, &catalogue.routes, &catalogue.silences, now) {
        let is_end = planned.status == NotificationStatus::Resolved;
        if is_end && notified.get(&planned.route) != Some(&NotificationStatus::Firing) {
            continue;
        }
        tx.upsert_pending_notification(&Notification {
            id: NotificationId(Uuid::now_v7()),
            route: planned.route,
            receiver: planned.receiver,
            group_key: planned.group_key,
            status: planned.status,
            incident_ids: vec![incident.id],
            state: DeliveryState::Pending,
            due_at: planned.due_at,
            attempts: 0,
            outcome: None,
            created_at: now,
            finished_at: None,
        })
        .await?;
    }
    Ok(())
}

/// Use cases on incidents.
#[derive(Clone)]
pub struct Incidents {
    records: Records,
    chains: Chains,
}

impl Incidents {
    pub(crate) fn new(records: Records, chains: Chains) -> Self {
        Self { records, chains }
    }

    /// Incidents, newest first.
    pub async fn list(
        &self,
        filter: &IncidentFilter,
        page: &PageRequest,
    ) -> Result<Page<Incident>, OpError> {
        let items = self
            .records
            .db
            .list_incidents(filter, page.after()?, page.rows())
            .await?;
        Ok(Page::cut(items, page, |incident| incident.id.to_string()))
    }

    /// One incident with its history and its notifications.
    pub async fn get(
        &self,
        id: IncidentId,
    ) -> Result<(Incident, Vec<IncidentHistoryRow>, Vec<Notification>), OpError> {
        let incident = self
            .records
            .db
            .incident(id)
            .await?
            .ok_or_else(|| OpError::not_found("incident", id))?;
        let history = self
            .records
            .db
            .incident_events(id, None, HISTORY_MAX)
            .await?;
        let notifications = self
            .records
            .db
            .notifications_of(id, None, NOTIFICATIONS_MAX)
            .await?;
        Ok((incident, history, notifications))
    }

    /// Acknowledges an incident; a repeat changes nothing.
    pub async fn acknowledge(
        &self,
        who: &Principal,
        id: IncidentId,
        if_version: Option<i64>,
    ) -> Result<Incident, OpError> {
        let event = IncidentEvent::Acknowledged;
        retried(|| self.step_by_hand(who, id, if_version, event)).await
    }

    /// Resolves an incident; a repeat changes nothing.
    pub async fn resolve(
        &self,
        who: &Principal,
        id: IncidentId,
        if_version: Option<i64>,
    ) -> Result<Incident, OpError> {
        let event = IncidentEvent::Resolved;
        retried(|| self.step_by_hand(who, id, if_version, event)).await
    }

    async fn step_by_hand(
        &self,
        who: &Principal,
        id: IncidentId,
        if_version: Option<i64>,
        event: IncidentEvent,
    ) -> Result<Incident, OpError> {
        let now = self.records.now();
        let mut tx = self.records.db.begin().await?;
        let incident = tx
            .incident(id)
            .await?
            .ok_or_else(|| OpError::not_found("incident", id))?;
        if who.effect_on("incident") == Some(id) {
            return Ok(incident);
        }
        if if_version.is_some_and(|version| version != incident.version) {
            return Err(OpError::stale("incident", id));
        }
        let is_done = match event {
            IncidentEvent::Acknowledged => incident.state == IncidentState::Acknowledged,
            _ => incident.state == IncidentState::Resolved && event == IncidentEvent::Resolved,
        };
        if is_done {
            return Ok(incident);
        }
        let next = step(
            &mut tx,
            &self.chains.catalogue(),
            incident,
            event,
            &who.name,
            now,
        )
        .await?;
        audit(
            &mut tx,
            who,
            &format!("incident_{event}"),
            format!("incident/{id}"),
            now,
        )
        .await?;
        tx.commit().await?;
        Ok(next)
    }
}
