//! The dispatcher: hands due messages to receivers, and asks again for what is still open (design: domain.md, Incident).

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

use crate::app::App;
use crate::catalogue::{ActiveReceiver, Catalogue, NOTIFICATIONS};
use crate::guard::{KeptAway, Trouble};
use crate::ops::{OpError, PluginRef};
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

/// How long a message waits at most after it is due.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Delivers until the app ends.
pub(crate) async fn run(app: App) {
    let buckets = Arc::new(Mutex::new(Buckets::default()));
    super::leading(app, "notifications", LOOK_AGAIN, move |app| {
        let buckets = Arc::clone(&buckets);
        // On the heap: it holds a call of a plugin, which the loop would carry all the time.
        async move { Box::pin(round(app, &mut *buckets.lock().await)).await }
    })
    .await;
}

/// Delivers everything that is due.
async fn round(app: App, buckets: &mut Buckets) -> Result<(), OpError> {
    let catalogue = app.catalogue();
    tell_of_broken(&app, &catalogue).await?;
    deliver_due(&app, &catalogue, buckets).await?;
    repeat(&app, &catalogue).await
}

async fn deliver_due(
    app: &App,
    catalogue: &Catalogue,
    buckets: &mut Buckets,
) -> Result<(), OpError> {
    loop {
        let now = app.clock.now();
        let mut tx = app.db.begin().await?;
        let due = tx.claim_notifications(now, LEASE, BATCH).await?;
        if due.is_empty() {
            // A commit would wake everybody who waits for changes.
            return Ok(tx.rollback().await?);
        }
        tx.commit().await?;
        for notification in due {
            match buckets.take(catalogue, &notification.route, app.clock.now()) {
                Ok(()) => deliver(app, catalogue, &notification).await?,
                Err(free_at) => postpone(app, &notification, free_at).await?,
            }
        }
    }
}

/// Asks again for what was told long ago and is still open.
async fn repeat(app: &App, catalogue: &Catalogue) -> Result<(), OpError> {
    let now = app.clock.now();
    for route in &catalogue.routes {
        let told_before = now.minus(route.repeat_interval);
        let due = app.db.due_repeats(&route.name, told_before, BATCH).await?;
        if due.is_empty() {
            continue;
        }
        let mut tx = app.db.begin().await?;
        for told in due {
            let again = Notification {
                id: NotificationId(Uuid::now_v7()),
                receiver: route.receiver.clone(),
                state: DeliveryState::Pending,
                due_at: now,
                attempts: 0,
                outcome: None,
                created_at: now,
                finished_at: None,
                ..told
            };
            tx.upsert_pending_notification(&again).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

async fn deliver(
    app: &App,
    catalogue: &Catalogue,
    notification: &Notification,
) -> Result<(), OpError> {
    let mut incidents = Vec::new();
    for id in &notification.incident_ids {
        incidents.extend(app.db.incident(*id).await?);
    }
    if incidents.is_empty() {
        return finish(
            app,
            notification,
            DeliveryState::Failed,
            "its incidents are gone",
        )
        .await;
    }
    let Some(receiver) = catalogue.receivers.get(&notification.receiver) else {
        let text = format!("there is no receiver `{}` any more", notification.receiver);
        return try_again(app, notification, false, &text).await;
    };
    let plugin = match &receiver.plugin {
        Ok(plugin) => plugin,
        Err(reason) => return try_again(app, notification, false, reason).await,
    };
    if let Err(kept_away) = receiver.guard.allow(app.clock.now()) {
        return put_off(app, notification, &kept_away).await;
    }
    let message = message_of(notification, &incidents, app.clock.now());
    // A process that was frozen since it claimed the message must not send what another leader has sent by now.
    app.db.begin().await?.rollback().await?;
    let outcome = plugin.deliver(&message).await;
    receiver
        .guard
        .report(outcome.as_ref().map(drop), app.clock.now());
    tell_of_notifier(app, catalogue, receiver, outcome.as_ref().err()).await?;
    match outcome {
        Ok(receipt) => finish(app, notification, DeliveryState::Delivered, &receipt.detail).await,
        Err(error) => {
            let is_permanent = is_permanent(&error);
            try_again(app, notification, is_permanent, &error.to_string()).await
        }
    }
}

/// A notifier that breaks is an incident of the plugin; a channel that does not answer is not.
async fn tell_of_notifier(
    app: &App,
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
    app.tell_of_plugin(catalogue, &plugin, trouble.as_ref())
        .await
}

/// Tells of notifiers that could not be loaded, without a message that needs them.
async fn tell_of_broken(app: &App, catalogue: &Catalogue) -> Result<(), OpError> {
    for receiver in catalogue.receivers.values() {
        if let Err(reason) = &receiver.plugin {
            let plugin = PluginRef::new(NOTIFICATIONS, &receiver.plugin_name, PluginKind::Notifier);
            let trouble = Trouble::broken(reason);
            app.tell_of_plugin(catalogue, &plugin, Some(&trouble))
                .await?;
        }
    }
    Ok(())
}

/// A message whose notifier is kept from being called waits without losing a try, though not for ever.
async fn put_off(
    app: &App,
    notification: &Notification,
    kept_away: &KeptAway,
) -> Result<(), OpError> {
    if app.clock.now().since(notification.created_at) >= WAITS_MAX {
        let error = &kept_away.trouble.error;
        return finish(app, notification, DeliveryState::Failed, error).await;
    }
    postpone(app, notification, kept_away.until).await
}

async fn postpone(app: &App, notification: &Notification, until: Millis) -> Result<(), OpError> {
    let mut tx = app.db.begin().await?;
    tx.postpone_notification(notification.id, until).await?;
    tx.commit().await?;
    Ok(())
}

async fn try_again(
    app: &App,
    notification: &Notification,
    is_permanent: bool,
    text: &str,
) -> Result<(), OpError> {
    // The claim counted this try already.
    let attempts = notification.attempts;
    if is_permanent || attempts >= DELIVERY_ATTEMPTS_MAX {
        return finish(app, notification, DeliveryState::Failed, text).await;
    }
    let pause = delivery_backoff(attempts);
    let mut tx = app.db.begin().await?;
    tx.retry_notification(notification.id, app.clock.now().plus(pause), text)
        .await?;
    tx.commit().await?;
    Ok(())
}

async fn finish(
    app: &App,
    notification: &Notification,
    state: DeliveryState,
    outcome: &str,
) -> Result<(), OpError> {
    crate::metrics::notification(notification.receiver.clone(), state.as_str());
    // It was sent: forgetting that would send it again.
    let finish = || async {
        let mut tx = app.db.begin().await?;
        tx.finish_notification(notification.id, state, outcome, app.clock.now())
            .await?;
        tx.commit().await?;
        Ok(())
    };
    retried(finish).await
}

/// What a repeat would not mend: the receiver's own configuration, and what its channel refuses for good.
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
