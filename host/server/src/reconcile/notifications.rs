//! The dispatcher: delivers due notifications to receivers, and repeats those of incidents that are still open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use host_domain::ids::NotificationId;
use host_domain::incident::Incident;
use host_domain::notification::{
    DELIVERY_ATTEMPTS_MAX, DeliveryState, Notification, TokenBucket, delivery_backoff,
};
use host_domain::plugin::PluginKind;
use host_domain::time::Millis;
use host_runtime::{CallError, Failure, IncidentView, LabelView};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::loops::{Loop, Pace};
use crate::catalogue::{ActiveReceiver, Catalogue, NOTIFICATIONS};
use crate::guard::{KeptAway, Trouble};
use crate::ops::{Chains, OpError, PluginIncidents, PluginRef, Records};
use crate::services::Services;
use host_store::retried;

/// Messages that are claimed at once.
const BATCH: u32 = 50;
/// How long a claim holds: longer than a notifier may take.
const LEASE: Duration = Duration::from_mins(1);
/// How long a message waits for a notifier that breaks.
const WAITS_MAX: Duration = Duration::from_hours(24);

/// Token buckets by route. A restart fills them, which allows one more burst.
#[derive(Default)]
struct Buckets(BTreeMap<String, TokenBucket>);

impl Buckets {
    fn take(&mut self, catalogue: &Catalogue, route: &str, now: Millis) -> Result<(), Millis> {
        let Some(limits) = catalogue.routes.iter().find(|known| known.name == route) else {
            return Ok(());
        };
        let bucket = self.0.entry(route.to_owned());
        let bucket = bucket.or_insert_with(|| TokenBucket::full(limits.rate_burst, now));
        bucket.take(limits.rate_burst, limits.rate_period, now)
    }
}

/// Delivers notifications, on the leader.
pub(super) fn dispatcher(services: &Services) -> Loop {
    let dispatcher = Dispatcher {
        chains: services.chains.clone(),
        incidents: services.plugin_incidents.clone(),
    };
    let buckets = Arc::new(Mutex::new(Buckets::default()));
    let pace = Pace::Every(Duration::from_millis(500));
    Loop::leader("notifications", pace, move |records| {
        let (dispatcher, buckets) = (dispatcher.clone(), Arc::clone(&buckets));
        async move { dispatcher.round(&records, &mut *buckets.lock().await).await }
    })
}

#[derive(Clone)]
struct Dispatcher {
    chains: Chains,
    incidents: PluginIncidents,
}

impl Dispatcher {
    /// Delivers everything that is due.
    async fn round(&self, records: &Records, buckets: &mut Buckets) -> Result<(), OpError> {
        let catalogue = self.chains.catalogue();
        self.report_broken(records, &catalogue).await?;
        self.deliver_due(records, &catalogue, buckets).await?;
        repeat(records, &catalogue).await
    }

    async fn deliver_due(
        &self,
        records: &Records,
        catalogue: &Catalogue,
        buckets: &mut Buckets,
    ) -> Result<(), OpError> {
        loop {
            let now = records.now();
            let mut tx = records.db.begin().await?;
            let due = tx.claim_notifications(now, LEASE, BATCH).await?;
            if due.is_empty() {
                // A commit would wake everybody who waits for changes.
                return Ok(tx.rollback().await?);
            }
            tx.commit().await?;
            for notification in due {
                match buckets.take(catalogue, &notification.route, records.now()) {
                    Ok(()) => self.deliver(records, catalogue, &notification).await?,
                    Err(free_at) => postpone(records, &notification, free_at).await?,
                }
            }
        }
    }

    async fn deliver(
        &self,
        records: &Records,
        catalogue: &Catalogue,
        notification: &Notification,
    ) -> Result<(), OpError> {
        let mut incidents = Vec::new();
        for id in &notification.incident_ids {
            incidents.extend(records.db.incident(*id).await?);
        }
        if incidents.is_empty() {
            return finish(
                records,
                notification,
                DeliveryState::Failed,
                "its incidents are gone",
            )
            .await;
        }
        let Some(receiver) = catalogue.receivers.get(&notification.receiver) else {
            let text = format!("there is no receiver `{}` any more", notification.receiver);
            return try_again(records, notification, false, &text).await;
        };
        let plugin = match &receiver.plugin {
            Ok(plugin) => plugin,
            Err(reason) => return try_again(records, notification, false, reason).await,
        };
        if let Err(kept_away) = receiver.guard.allow(records.now()) {
            return put_off(records, notification, &kept_away).await;
        }
        let message = message_of(notification, &incidents, records.now());
        // A process that was frozen since it claimed the message must not send what another leader has sent by now.
        records.db.begin().await?.rollback().await?;
        let outcome = plugin.deliver(&message).await;
        receiver
            .guard
            .report(outcome.as_ref().map(drop), records.now());
        self.report_notifier(records, catalogue, receiver, outcome.as_ref().err())
            .await?;
        match outcome {
            Ok(receipt) => {
                finish(
                    records,
                    notification,
                    DeliveryState::Delivered,
                    &receipt.detail,
                )
                .await
            }
            Err(error) => {
                let is_permanent = is_permanent(&error);
                try_again(records, notification, is_permanent, &error.to_string()).await
            }
        }
    }

    /// A notifier that breaks is an incident of the plugin; a channel that does not answer is not.
    async fn report_notifier(
        &self,
        records: &Records,
        catalogue: &Catalogue,
        receiver: &ActiveReceiver,
        error: Option<&CallError>,
    ) -> Result<(), OpError> {
        if error.is_some_and(|error| !error.is_fault()) {
            return Ok(());
        }
        let name = &receiver.plugin_name;
        let plugin = PluginRef::new(NOTIFICATIONS, name, PluginKind::Notifier);
        let trouble = catalogue.notifier_trouble(name);
        self.incidents
            .report(records, catalogue, &plugin, trouble.as_ref())
            .await
    }

    /// Raises incidents of notifiers that could not be loaded, even without a notification that needs them.
    async fn report_broken(&self, records: &Records, catalogue: &Catalogue) -> Result<(), OpError> {
        for receiver in catalogue.receivers.values() {
            if let Err(reason) = &receiver.plugin {
                let plugin =
                    PluginRef::new(NOTIFICATIONS, &receiver.plugin_name, PluginKind::Notifier);
                let trouble = Trouble::broken(reason);
                self.incidents
                    .report(records, catalogue, &plugin, Some(&trouble))
                    .await?;
            }
        }
        Ok(())
    }
}

/// Repeats notifications of incidents that are still open.
async fn repeat(records: &Records, catalogue: &Catalogue) -> Result<(), OpError> {
    let now = records.now();
    for route in &catalogue.routes {
        let sent_before = now.minus(route.repeat_interval);
        let due = records
            .db
            .due_repeats(&route.name, sent_before, BATCH)
            .await?;
        if due.is_empty() {
            continue;
        }
        let mut tx = records.db.begin().await?;
        for sent in due {
            let again = Notification {
                id: NotificationId(Uuid::now_v7()),
                receiver: route.receiver.clone(),
                state: DeliveryState::Pending,
                due_at: now,
                attempts: 0,
                outcome: None,
                created_at: now,
                finished_at: None,
                ..sent
            };
            tx.upsert_pending_notification(&again).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// Postpones a notification while the breaker of its notifier is open, up to a limit; this costs no attempt.
async fn put_off(
    records: &Records,
    notification: &Notification,
    kept_away: &KeptAway,
) -> Result<(), OpError> {
    if records.now().since(notification.created_at) >= WAITS_MAX {
        let error = &kept_away.trouble.error;
        return finish(records, notification, DeliveryState::Failed, error).await;
    }
    postpone(records, notification, kept_away.until).await
}

async fn postpone(
    records: &Records,
    notification: &Notification,
    until: Millis,
) -> Result<(), OpError> {
    let mut tx = records.db.begin().await?;
    tx.postpone_notification(notification.id, until).await?;
    tx.commit().await?;
    Ok(())
}

async fn try_again(
    records: &Records,
    notification: &Notification,
    is_permanent: bool,
    text: &str,
) -> Result<(), OpError> {
    // The claim counted this try already.
    let attempts = notification.attempts;
    if is_permanent || attempts >= DELIVERY_ATTEMPTS_MAX {
        return finish(records, notification, DeliveryState::Failed, text).await;
    }
    let pause = delivery_backoff(attempts);
    let mut tx = records.db.begin().await?;
    tx.retry_notification(notification.id, records.now().plus(pause), text)
        .await?;
    tx.commit().await?;
    Ok(())
}

async fn finish(
    records: &Records,
    notification: &Notification,
    state: DeliveryState,
    outcome: &str,
) -> Result<(), OpError> {
    crate::metrics::notification(notification.receiver.clone(), state.as_str());
    // It was sent: forgetting that would send it again.
    let finish = || async {
        let mut tx = records.db.begin().await?;
        tx.finish_notification(notification.id, state, outcome, records.now())
            .await?;
        tx.commit().await?;
        Ok(())
    };
    retried(finish).await
}

/// Errors that a retry can't fix: the receiver's own configuration, and permanent refusals of its channel.
fn is_permanent(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Failure(Failure::BadConfig { .. } | Failure::Denied(_) | Failure::Other(_))
    )
}

fn message_of(
    notification: &Notification,
    incidents: &[Incident],
    now: Millis,
) -> host_runtime::Notification {
    host_runtime::Notification {
        id: notification.id.to_string(),
        route: notification.route.clone(),
        receiver: notification.receiver.clone(),
        status: notification.status,
        sent_at: now,
        incidents: incidents.iter().map(view_of).collect(),
    }
}

fn view_of(incident: &Incident) -> IncidentView {
    let labels = incident.labels.iter();
    IncidentView {
        id: incident.id.to_string(),
        category: incident.key.category.clone(),
        severity: incident.severity,
        state: incident.state,
        title: incident.title.clone(),
        subject_kind: incident.key.subject_kind.as_str().to_owned(),
        subject_id: incident.key.subject_id.clone(),
        subject_name: incident.subject_name.clone(),
        labels: labels
            .map(|(key, value)| LabelView {
                key: key.clone(),
                value: value.clone(),
            })
            .collect(),
        reasons: incident.reasons.clone(),
        occurrences: incident.occurrences,
        opened_at: incident.opened_at,
        resolved_at: incident.resolved_at,
    }
}
