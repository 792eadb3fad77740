//! Rounds over a scripted engine, and what an administrator may begin anew.

use host_domain::operation::OperationState;
use host_domain::time::Millis;
use host_workflows::HistoryEntry;

use super::*;
use crate::ops::{Principal, Scope};
use crate::test_bed::Bed;

async fn run(bed: &Bed) -> Result<(), OpError> {
    let services = &bed.services;
    let limit = services.config.workflows.stalled_after;
    round(&bed.records, &services.chains, &services.engine, limit).await
}

fn admin() -> Principal {
    Principal {
        name: "admin".to_owned(),
        scopes: [Scope::Admin].into(),
        request: None,
        request_id: None,
    }
}

#[tokio::test]
async fn a_workflow_in_which_nothing_happens_is_one_incident_until_it_goes_on() {
    let (bed, engine) = Bed::with_engine().await;
    let begun = bed.records.now();
    let stalled = bed.operation("stalled", OperationState::Running).await;
    engine.set("stalled", StatusKind::Running, begun);
    engine.set("ended", StatusKind::Failed, Millis(0));
    engine.set("of nobody", StatusKind::Running, begun);
    bed.wait(1_801);
    engine.set("at work", StatusKind::Running, bed.records.now());
    for _ in 0..2 {
        run(&bed).await.unwrap();
    }
    let mut told: Vec<_> = bed.incidents().await;
    told.sort_by_key(|incident| incident.key.subject_kind.as_str());
    let about: Vec<_> = told
        .iter()
        .map(|incident| incident.key.subject_id.as_str())
        .collect();
    assert_eq!(about, ["of nobody", &stalled.node_id.to_string()]);
    assert!(
        told.iter().all(|incident| incident.occurrences == 1),
        "{told:#?}"
    );
    assert!(!bed.commits(run(&bed)).await, "told is told");

    engine.set("stalled", StatusKind::Running, bed.records.now());
    engine.set("of nobody", StatusKind::Completed, begun);
    run(&bed).await.unwrap();
    let told = bed.incidents().await;
    assert!(
        told.iter()
            .all(|incident| incident.state == IncidentState::Resolved),
        "{told:#?}"
    );
}

#[tokio::test]
async fn only_what_does_not_work_is_begun_anew() {
    let (bed, engine) = Bed::with_engine().await;
    for (id, state) in [
        ("running", OperationState::Running),
        ("ended", OperationState::Running),
        ("lost", OperationState::Running),
        ("over", OperationState::Failed),
    ] {
        bed.operation(id, state).await;
    }
    engine.set("running", StatusKind::Running, Millis(0));
    engine.set("ended", StatusKind::Failed, Millis(0));
    engine.set("over", StatusKind::Failed, Millis(0));
    for (id, expected) in [
        ("running", None),
        ("ended", Some(vec!["delete ended", "start ended"])),
        ("lost", Some(vec!["start lost"])),
        ("over", None),
        ("unknown", None),
    ] {
        let retried = bed.ops.workflows.retry(&admin(), id).await;
        assert_eq!(retried.is_ok(), expected.is_some(), "{id}: {retried:?}");
        assert_eq!(engine.asked(), expected.unwrap_or_default(), "{id}");
    }
}

#[tokio::test]
async fn a_history_is_read_in_order_part_by_part() {
    let (bed, _engine) = Bed::with_engine().await;
    let mut page = crate::ops::PageRequest {
        limit: 2,
        cursor: None,
    };
    let first = bed.ops.workflows.history("w", &page).await.unwrap();
    let places = |entries: &[HistoryEntry]| {
        let place = |entry: &HistoryEntry| (entry.execution, entry.sequence);
        entries.iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(places(&first.items), [(1, 9), (1, 10)]);
    page.cursor = first.next;
    let rest = bed.ops.workflows.history("w", &page).await.unwrap();
    assert_eq!((places(&rest.items), rest.next), (vec![(2, 1)], None));
}
