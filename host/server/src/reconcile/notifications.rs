//! The dispatcher: hands due messages to receivers, and asks again for what is still open (design: domain.md, Incident).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use host_domain::ids::NotificationId;
use host_domain::incident::{Cause, Incident, Severity, category};
use host_domain::node::Reason;
use host_domain::notification::{
    DELIVERY_ATTEMPTS_MAX, DeliveryState, Notification, TokenBucket, delivery_backoff,
};
use host_domain::time::Millis;
use host_runtime::{CallError, Failure, IncidentView, LabelView};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::app::App;
use crate::catalogue::{Catalogue, NOTIFICATIONS};
use crate::ops::{OpError, Subject, raise, resolve};

/// Messages that are claimed at once.
const BATCH: u32 = 50;
/// How long a claim holds: longer than a notifier may take.
const LEASE: Duration = Duration::from_mins(1);

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
    super::every(app, "notifications", LOOK_AGAIN, move |app| {
        let buckets = Arc::clone(&buckets);
        async move { round(app, &mut *buckets.lock().await).await }
    })
    .await;
}

/// Delivers everything that is due.
async fn round(app: App, buckets: &mut Buckets) -> Result<(), OpError> {
    let catalogue = app.catalogue();
    repeat(&app, &catalogue).await?;
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
            match buckets.take(&catalogue, &notification.route, app.clock.now()) {
                Ok(()) => deliver(&app, &catalogue, &notification).await?,
                Err(free_at) => {
                    let mut tx = app.db.begin().await?;
                    tx.postpone_notification(notification.id, free_at).await?;
                    tx.commit().await?;
                }
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
    let receiver = catalogue.receivers.get(&notification.receiver);
    let outcome = match receiver.map(|receiver| (&receiver.plugin_name, &receiver.plugin)) {
        Some((name, Ok(plugin))) => {
            let message = message_of(notification, &incidents, app.clock.now());
            let outcome = plugin.deliver(&message).await;
            tell_of_plugin(app, catalogue, name, outcome.as_ref().err()).await?;
            outcome
                .map(|receipt| receipt.detail)
                .map_err(|error| (is_permanent(&error), error.to_string()))
        }
        Some((_, Err(reason))) => Err((false, reason.clone())),
        None => Err((
            false,
            format!("there is no receiver `{}` any more", notification.receiver),
        )),
    };
    match outcome {
        Ok(detail) => finish(app, notification, DeliveryState::Delivered, &detail).await,
        Err((is_permanent, text)) => try_again(app, notification, is_permanent, &text).await,
    }
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
    metrics::counter!(
        "notifications_total",
        "receiver" => notification.receiver.clone(), "state" => state.as_str(),
    )
    .increment(1);
    let mut tx = app.db.begin().await?;
    tx.finish_notification(notification.id, state, outcome, app.clock.now())
        .await?;
    tx.commit().await?;
    Ok(())
}

/// What a repeat would not mend: the receiver's own configuration, and what its channel refuses for good.
fn is_permanent(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Failure(Failure::BadConfig { .. } | Failure::Denied(_) | Failure::Other(_))
    )
}

/// A notifier that breaks is an incident of the plugin; a channel that does not answer is not.
async fn tell_of_plugin(
    app: &App,
    catalogue: &Catalogue,
    plugin: &str,
    error: Option<&CallError>,
) -> Result<(), OpError> {
    let subject = Subject::plugin(NOTIFICATIONS, plugin);
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    match error {
        None => resolve(&mut tx, catalogue, &subject, category::PLUGIN_ERROR, now).await?,
        Some(error) if error.is_fault() => {
            let cause = Cause {
                category: category::PLUGIN_ERROR.to_owned(),
                severity: Severity::Critical,
                title: format!(
                    "notifier {} is broken: messages may not arrive",
                    subject.name
                ),
                reasons: vec![Reason::new(error.code(), error.to_string())],
            };
            raise(&mut tx, catalogue, &subject, &cause, now).await?;
        }
        Some(_) => {}
    }
    tx.commit().await?;
    Ok(())
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
