//! The JSON body of a notification. Fields are only added; an incompatible change needs a new `version`.

use bellwether_plugin_sdk::notifier::{Incident, IncidentState, Notification, Severity, Status};
use serde::Serialize;
use serde_json::{Map, Value};

/// The version of the body's format.
const VERSION: &str = "1";

/// One notification.
#[derive(Serialize)]
pub(crate) struct Body<'a> {
    version: &'static str,
    id: &'a str,
    status: &'static str,
    route: &'a str,
    receiver: &'a str,
    sent_at_ms: i64,
    incidents: Vec<IncidentBody<'a>>,
}

#[derive(Serialize)]
struct IncidentBody<'a> {
    id: &'a str,
    category: &'a str,
    severity: &'static str,
    state: &'static str,
    title: &'a str,
    subject: Subject<'a>,
    labels: Map<String, Value>,
    reasons: Vec<ReasonBody<'a>>,
    occurrences: u32,
    opened_at_ms: i64,
    resolved_at_ms: Option<i64>,
}

#[derive(Serialize)]
struct Subject<'a> {
    kind: &'a str,
    id: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct ReasonBody<'a> {
    code: &'a str,
    message: &'a str,
}

impl<'a> Body<'a> {
    /// The body of a notification.
    pub(crate) fn of(notification: &'a Notification) -> Self {
        Self {
            version: VERSION,
            id: &notification.id,
            status: match notification.status {
                Status::Firing => "firing",
                Status::Resolved => "resolved",
            },
            route: &notification.route,
            receiver: &notification.receiver,
            sent_at_ms: notification.sent_at_ms,
            incidents: notification
                .incidents
                .iter()
                .map(IncidentBody::of)
                .collect(),
        }
    }
}

impl<'a> IncidentBody<'a> {
    fn of(incident: &'a Incident) -> Self {
        let label =
            |tag: &bellwether_plugin_sdk::Tag| (tag.key.clone(), Value::from(tag.value.clone()));
        let reasons = incident.reasons.iter();
        Self {
            id: &incident.id,
            category: &incident.category,
            severity: match incident.severity {
                Severity::Info => "info",
                Severity::Warning => "warning",
                Severity::Critical => "critical",
            },
            state: match incident.state {
                IncidentState::Open => "open",
                IncidentState::Acknowledged => "acknowledged",
                IncidentState::Escalated => "escalated",
                IncidentState::Resolved => "resolved",
            },
            title: &incident.title,
            subject: Subject {
                kind: &incident.subject_kind,
                id: &incident.subject_id,
                name: &incident.subject_name,
            },
            labels: incident.labels.iter().map(label).collect(),
            reasons: reasons
                .map(|reason| ReasonBody {
                    code: &reason.code,
                    message: &reason.message,
                })
                .collect(),
            occurrences: incident.occurrences,
            opened_at_ms: incident.opened_at_ms,
            resolved_at_ms: incident.resolved_at_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellwether_plugin_sdk::{Tag, notifier::Reason};

    #[test]
    fn the_body_is_as_documented() {
        let incident = Incident {
            id: "i-1".into(),
            category: "node_critical".into(),
            severity: Severity::Critical,
            state: IncidentState::Open,
            title: "anvil-1 is critical".into(),
            subject_kind: "node".into(),
            subject_id: "n-1".into(),
            subject_name: "anvil-1".into(),
            labels: vec![Tag {
                key: "chain".into(),
                value: "anvil-devnet".into(),
            }],
            reasons: vec![Reason {
                code: "height_stalled".into(),
                message: "stuck".into(),
            }],
            occurrences: 1,
            opened_at_ms: 7,
            resolved_at_ms: None,
        };
        let notification = Notification {
            id: "d-1".into(),
            route: "all".into(),
            receiver: "ops".into(),
            status: Status::Firing,
            sent_at_ms: 8,
            incidents: vec![incident],
        };
        let body = serde_json::to_value(Body::of(&notification)).unwrap();
        let expected = serde_json::json!({
            "version": "1", "id": "d-1", "status": "firing", "route": "all", "receiver": "ops", "sent_at_ms": 8,
            "incidents": [{
                "id": "i-1", "category": "node_critical", "severity": "critical", "state": "open",
                "title": "anvil-1 is critical",
                "subject": {"kind": "node", "id": "n-1", "name": "anvil-1"},
                "labels": {"chain": "anvil-devnet"},
                "reasons": [{"code": "height_stalled", "message": "stuck"}],
                "occurrences": 1, "opened_at_ms": 7, "resolved_at_ms": null
            }]
        });
        assert_eq!(body, expected);
    }
}
