//! Incidents: one unresolved per key, changed by one writer at a time.

use host_domain::incident::{Incident, IncidentEvent, IncidentState, Severity};
use host_domain::time::Millis;
use host_store::{Db, IncidentFilter, IncidentHistoryEntry, StoreError};

use super::builders::{incident, stored_incident};
use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    one_is_unresolved_per_key(db).await;
    one_of_two_writers_wins(db).await;
    lists_filter_and_go_on(db).await;
    history_is_appended_once(db).await;
}

async fn update(db: &Db, to: &Incident) -> Option<i64> {
    let mut tx = db.begin().await.unwrap();
    let version = tx.update_incident(to).await.unwrap();
    tx.commit().await.unwrap();
    version
}

async fn one_is_unresolved_per_key(db: &Db) {
    let first = stored_incident(db, "a").await;
    assert_eq!(db.incident(first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(
        db.newest_incident(&first.key).await.unwrap(),
        Some(first.clone())
    );
    let second = Incident {
        opened_at: Millis(9),
        ..incident("a")
    };
    let mut tx = db.begin().await.unwrap();
    let taken = tx.insert_incident(&second).await;
    assert!(
        matches!(taken, Err(StoreError::Conflict { .. })),
        "{taken:?}"
    );
    drop(tx);
    let resolved = Incident {
        state: IncidentState::Resolved,
        resolved_at: Some(Millis(5)),
        ..first.clone()
    };
    assert_eq!(update(db, &resolved).await, Some(2));
    let mut tx = db.begin().await.unwrap();
    tx.insert_incident(&second).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        db.newest_incident(&first.key).await.unwrap().unwrap().id,
        second.id
    );
    // Reopening the first one now would make two.
    let reopened = Incident {
        state: IncidentState::Open,
        version: 2,
        ..first.clone()
    };
    let mut tx = db.begin().await.unwrap();
    assert!(matches!(
        tx.update_incident(&reopened).await,
        Err(StoreError::Conflict { .. })
    ));
    drop(tx);
    // Among resolved ones, the one that was resolved last counts.
    let both = Incident {
        state: IncidentState::Resolved,
        resolved_at: Some(Millis(4)),
        ..second
    };
    assert_eq!(update(db, &both).await, Some(2));
    assert_eq!(
        db.newest_incident(&first.key).await.unwrap().unwrap().id,
        first.id
    );
    assert_eq!(
        db.newest_incident(&incident("nobody").key).await.unwrap(),
        None
    );
}

async fn one_of_two_writers_wins(db: &Db) {
    let raced = stored_incident(db, "raced").await;
    let acknowledged = Incident {
        state: IncidentState::Acknowledged,
        acknowledged_by: Some("ops".to_owned()),
        occurrences: 3,
        severity: Severity::Warning,
        updated_at: Millis(7),
        ..raced.clone()
    };
    let (one, two) = tokio::join!(update(db, &acknowledged), update(db, &acknowledged));
    assert_eq!(
        [one, two].into_iter().flatten().collect::<Vec<_>>(),
        vec![2]
    );
    assert_eq!(
        db.incident(raced.id).await.unwrap(),
        Some(Incident {
            version: 2,
            ..acknowledged
        })
    );
}

async fn lists_filter_and_go_on(db: &Db) {
    let open = stored_incident(db, "listed").await;
    let all = db
        .list_incidents(&IncidentFilter::default(), None, 10)
        .await
        .unwrap();
    assert_eq!(all.len(), 4);
    assert_eq!(all[0].id, open.id);
    let rest = db
        .list_incidents(&IncidentFilter::default(), Some(all[1].id), 10)
        .await
        .unwrap();
    assert_eq!(rest, all[2..]);
    let count =
        async |filter: IncidentFilter| db.list_incidents(&filter, None, 10).await.unwrap().len();
    let state = IncidentFilter {
        state: Some(IncidentState::Acknowledged),
        ..IncidentFilter::default()
    };
    let unresolved = IncidentFilter {
        unresolved: true,
        ..IncidentFilter::default()
    };
    let warning = IncidentFilter {
        severity: Some(Severity::Warning),
        ..IncidentFilter::default()
    };
    let category = IncidentFilter {
        category: Some("other".to_owned()),
        ..IncidentFilter::default()
    };
    let subject = IncidentFilter {
        subject_id: Some("a".to_owned()),
        ..IncidentFilter::default()
    };
    let counts = [
        count(state).await,
        count(unresolved).await,
        count(warning).await,
        count(category).await,
        count(subject).await,
    ];
    assert_eq!(counts, [1, 2, 1, 0, 2]);
}

async fn history_is_appended_once(db: &Db) {
    let subject = stored_incident(db, "history").await;
    let mut tx = db.begin().await.unwrap();
    let mut lines = Vec::new();
    for (id, event) in [
        ("1", IncidentEvent::Opened),
        ("2", IncidentEvent::Acknowledged),
    ] {
        let line = IncidentHistoryEntry {
            id: id.to_owned(),
            incident_id: subject.id,
            event,
            actor: "ops".to_owned(),
            at: Millis(1),
            message: "seen".to_owned(),
        };
        assert!(tx.append_incident_event(&line).await.unwrap());
        assert!(!tx.append_incident_event(&line).await.unwrap());
        lines.push(line);
    }
    tx.commit().await.unwrap();
    assert_eq!(
        db.incident_events(subject.id, None, 10).await.unwrap(),
        lines
    );
    assert_eq!(
        db.incident_events(subject.id, Some("1"), 10).await.unwrap(),
        lines[1..]
    );
    assert_eq!(
        db.incident_events(subject.id, None, 1).await.unwrap(),
        lines[..1]
    );
}
