//! Routing, grouping, silencing and rate limits as tables.

use uuid::Uuid;

use super::*;
use crate::incident::{IncidentKey, IncidentState, SubjectKind};

fn incident(chain: &str, severity: Severity) -> Incident {
    Incident {
        id: IncidentId(Uuid::nil()),
        key: IncidentKey {
            subject_kind: SubjectKind::Node,
            subject_id: "1".into(),
            category: "node_critical".into(),
        },
        subject_name: "a".into(),
        labels: node_labels(chain, "full"),
        severity,
        state: IncidentState::Open,
        title: "a is critical".into(),
        reasons: vec![],
        occurrences: 1,
        opened_at: Millis(0),
        updated_at: Millis(0),
        acknowledged_by: None,
        resolved_at: None,
        version: 1,
    }
}

fn route(name: &str, matcher: Matcher) -> Route {
    Route {
        name: name.into(),
        matcher,
        receiver: format!("{name}-receiver"),
        group_wait: Duration::from_secs(30),
        repeat_interval: Duration::from_hours(4),
        rate_burst: 2,
        rate_period: Duration::from_mins(1),
    }
}

fn routes_of(planned: &[PlannedNotification]) -> Vec<&str> {
    planned
        .iter()
        .map(|planned| planned.route.as_str())
        .collect()
}

#[test]
fn routes_match_labels_and_severity() {
    let routes = [
        route("all", Matcher::default()),
        route(
            "celestia",
            Matcher {
                chain: Some(vec!["celestia-mocha".into()]),
                ..Matcher::default()
            },
        ),
        route(
            "pager",
            Matcher {
                severity: Some(vec![Severity::Critical]),
                ..Matcher::default()
            },
        ),
        route(
            "upgrades",
            Matcher {
                category: Some(vec!["upgrade_failed".into()]),
                ..Matcher::default()
            },
        ),
    ];
    let planned = |chain, severity| {
        let planned = plan(
            &incident(chain, severity),
            IncidentEvent::Opened,
            &routes,
            &[],
            Millis(0),
        );
        routes_of(&planned).join(" ")
    };
    assert_eq!(planned("anvil-devnet", Severity::Critical), "all pager");
    assert_eq!(planned("celestia-mocha", Severity::Warning), "all celestia");
}

#[test]
fn only_changes_that_people_need_are_told() {
    let routes = [route("all", Matcher::default())];
    for event in IncidentEvent::ALL {
        let planned = plan(
            &incident("a", Severity::Critical),
            *event,
            &routes,
            &[],
            Millis(0),
        );
        let is_needed = !matches!(event, IncidentEvent::Repeated | IncidentEvent::Acknowledged);
        assert_eq!(!planned.is_empty(), is_needed, "{event}");
    }
}

#[test]
fn a_silence_mutes_the_beginning_until_its_end() {
    let routes = [route("all", Matcher::default())];
    let silences = [Silence {
        matcher: Matcher::default(),
        until: Millis(1_000),
    }];
    let told = |event, now| {
        !plan(
            &incident("a", Severity::Critical),
            event,
            &routes,
            &silences,
            Millis(now),
        )
        .is_empty()
    };
    assert!(!told(IncidentEvent::Opened, 999));
    assert!(told(IncidentEvent::Opened, 1_000));
    assert!(told(IncidentEvent::Resolved, 999));
}

#[test]
fn a_bucket_allows_a_burst_and_then_a_rate() {
    let minute = Duration::from_mins(1);
    let mut bucket = TokenBucket::full(2, Millis(0));
    assert_eq!(bucket.take(2, minute, Millis(0)), Ok(()));
    assert_eq!(bucket.take(2, minute, Millis(0)), Ok(()));
    assert_eq!(bucket.take(2, minute, Millis(0)), Err(Millis(30_000)));
    assert_eq!(bucket.take(2, minute, Millis(30_000)), Ok(()));
}

#[test]
fn tries_back_off_to_a_minute() {
    let seconds: Vec<u64> = (1..=9)
        .map(|attempts| delivery_backoff(attempts).as_secs())
        .collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}
