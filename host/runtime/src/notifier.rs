//! Calls notifiers: a notification about a group of incidents out, a receipt back, and people's actions from the
//! channel.

use std::collections::BTreeMap;

use host_domain::incident::{IncidentState, Severity};
use host_domain::node::Reason;
use host_domain::notification::NotificationStatus;
use host_domain::time::Millis;

use crate::bindings::notifier::exports::bellwether::notifier::notify;
use crate::bindings::shared::bellwether::types::observations::Tag;
use crate::call::cut_owned;
use crate::error::CallError;
use crate::plugin::Plugin;

/// The maximum actions of one callback.
const ACTIONS_MAX: usize = 100;
/// The maximum bytes of a reference, a detail or an actor; the rest is truncated.
const TEXT_BYTES_MAX: usize = 1024;

/// A label of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelView {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// An incident for a notifier.
#[derive(Clone, Debug, PartialEq)]
pub struct IncidentView {
    /// Its id.
    pub id: String,
    /// Its category.
    pub category: String,
    /// Its severity.
    pub severity: Severity,
    /// Its state.
    pub state: IncidentState,
    /// One line for people.
    pub title: String,
    /// `node`, `plugin` or `machine`.
    pub subject_kind: String,
    /// The subject's id.
    pub subject_id: String,
    /// The subject's name.
    pub subject_name: String,
    /// The labels that routes match.
    pub labels: Vec<LabelView>,
    /// Why.
    pub reasons: Vec<Reason>,
    /// How often its cause occurred.
    pub occurrences: u32,
    /// When it was opened.
    pub opened_at: Millis,
    /// When it was resolved.
    pub resolved_at: Option<Millis>,
}

/// One notification about one group of incidents.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The same in every attempt.
    pub id: String,
    /// The route that caused it.
    pub route: String,
    /// The receiver.
    pub receiver: String,
    /// Problem or end.
    pub status: NotificationStatus,
    /// The time of this attempt.
    pub sent_at: Millis,
    /// The incidents.
    pub incidents: Vec<IncidentView>,
}

/// The channel's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The channel's own id of the notification.
    pub reference: Option<String>,
    /// Text for the delivery log.
    pub detail: String,
}

/// A request from the channel, such as a pressed button.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// HTTP method.
    pub method: String,
    /// Headers; repeated ones are joined by the caller.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Vec<u8>,
}

/// The requested action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackKind {
    /// Acknowledge the incident.
    Acknowledge,
    /// Resolve the incident.
    Resolve,
}

/// An action on an incident that a person requested in the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackAction {
    /// The incident.
    pub incident_id: String,
    /// The action.
    pub kind: CallbackKind,
    /// The person, as the channel names them.
    pub actor: String,
}

impl Plugin {
    /// Delivers a notification.
    pub async fn deliver(&self, notification: &Notification) -> Result<Receipt, CallError> {
        let linked = self.notifier()?;
        let message = message(notification);
        self.caller()
            .call(
                "deliver",
                self.caller().no_node(),
                |mut store| async move {
                    let answer = async {
                        let plugin = linked.instantiate_async(&mut store).await?;
                        plugin
                            .bellwether_notifier_notify()
                            .call_deliver(&mut store, self.config(), &message)
                            .await
                    };
                    let answer = answer.await;
                    (store, answer)
                },
                |receipt| Ok(taken(receipt)),
            )
            .await
    }

    /// Passes a request from the channel to the notifier, which returns the requested actions.
    pub async fn on_callback(&self, callback: &Callback) -> Result<Vec<CallbackAction>, CallError> {
        let linked = self.notifier()?;
        let callback = notify::Callback {
            method: callback.method.clone(),
            headers: callback
                .headers
                .iter()
                .map(|(key, value)| tag(key, value))
                .collect(),
            body: callback.body.clone(),
        };
        self.caller()
            .call(
                "on-callback",
                self.caller().no_node(),
                |mut store| async move {
                    let answer = async {
                        let plugin = linked.instantiate_async(&mut store).await?;
                        plugin
                            .bellwether_notifier_notify()
                            .call_on_callback(&mut store, self.config(), &callback)
                            .await
                    };
                    let answer = answer.await;
                    (store, answer)
                },
                actions,
            )
            .await
    }
}

fn taken(said: notify::Receipt) -> Receipt {
    Receipt {
        reference: said
            .reference
            .map(|reference| cut_owned(&reference, TEXT_BYTES_MAX)),
        detail: cut_owned(&said.detail, TEXT_BYTES_MAX),
    }
}

fn actions(said: Vec<notify::CallbackAction>) -> Result<Vec<CallbackAction>, CallError> {
    if said.len() > ACTIONS_MAX {
        let reason = format!(
            "the plugin returned {} actions; the maximum is {ACTIONS_MAX}",
            said.len()
        );
        return Err(CallError::BadAnswer { reason });
    }
    Ok(said.into_iter().map(action).collect())
}

fn action(said: notify::CallbackAction) -> CallbackAction {
    let kind = match said.action {
        notify::Action::Acknowledge => CallbackKind::Acknowledge,
        notify::Action::Resolve => CallbackKind::Resolve,
    };
    CallbackAction {
        incident_id: said.incident_id,
        kind,
        actor: cut_owned(&said.actor, TEXT_BYTES_MAX),
    }
}

fn tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn message(notification: &Notification) -> notify::Notification {
    notify::Notification {
        id: notification.id.clone(),
        route: notification.route.clone(),
        receiver: notification.receiver.clone(),
        status: match notification.status {
            NotificationStatus::Firing => notify::Status::Firing,
            NotificationStatus::Resolved => notify::Status::Resolved,
        },
        sent_at_ms: notification.sent_at.0,
        incidents: notification.incidents.iter().map(incident).collect(),
    }
}

fn incident(view: &IncidentView) -> notify::Incident {
    notify::Incident {
        id: view.id.clone(),
        category: view.category.clone(),
        severity: match view.severity {
            Severity::Info => notify::Severity::Info,
            Severity::Warning => notify::Severity::Warning,
            Severity::Critical => notify::Severity::Critical,
        },
        state: match view.state {
            IncidentState::Open => notify::IncidentState::Open,
            IncidentState::Acknowledged => notify::IncidentState::Acknowledged,
            IncidentState::Escalated => notify::IncidentState::Escalated,
            IncidentState::Resolved => notify::IncidentState::Resolved,
        },
        title: view.title.clone(),
        subject_kind: view.subject_kind.clone(),
        subject_id: view.subject_id.clone(),
        subject_name: view.subject_name.clone(),
        labels: view
            .labels
            .iter()
            .map(|label| tag(&label.key, &label.value))
            .collect(),
        reasons: view
            .reasons
            .iter()
            .map(|reason| notify::Reason {
                code: reason.code.clone(),
                message: reason.message.clone(),
            })
            .collect(),
        occurrences: view.occurrences,
        opened_at_ms: view.opened_at.0,
        resolved_at_ms: view.resolved_at.map(|at| at.0),
    }
}
