//! What is kept for its time and deleted afterwards, with a clock that stands still until it is moved.

use host_domain::time::Clock as _;
use host_store::{AuditFilter, NewLogEntry};

use super::round;
use crate::ops::{Principal, Scope};
use crate::test_bed::Bed;

#[tokio::test]
async fn the_audit_log_and_ended_api_keys_are_kept_for_their_time() {
    const DAY_S: i64 = 24 * 3_600;
    let bed = Bed::new().await;
    let db = &bed.records.db;
    let scopes = [Scope::NodesRead].into();
    let keys = &bed.ops.api_keys;
    keys.create_for_host("ended", &scopes).await.unwrap();
    let key = db.api_key_by_name("ended").await.unwrap().unwrap();
    let who = Principal::host();
    keys.revoke(&who, "ended").await.unwrap();
    let n_acts = async || {
        let acts = db.list_audit(&AuditFilter::default(), None, 99).await;
        acts.unwrap().len()
    };
    let acts = n_acts().await;
    for (days, is_key_kept, n_acts_kept) in [(89, true, acts), (2, false, acts), (310, false, 0)] {
        bed.wait(days * DAY_S);
        let keep = &bed.services.config.retention;
        round(&bed.records, keep).await.unwrap();
        let found = db.api_key(key.id).await.unwrap();
        assert_eq!(found.is_some(), is_key_kept, "after {days} more days");
        assert_eq!(n_acts().await, n_acts_kept, "after {days} more days");
    }
}

#[tokio::test]
async fn what_is_older_than_it_has_to_be_is_forgotten() {
    let bed = Bed::new().await;
    let log = async |kind: &str| {
        let entry = NewLogEntry {
            kind: kind.to_owned(),
            node_id: None,
            chain: None,
            at: bed.clock.now(),
            payload: serde_json::json!({}),
        };
        let mut tx = bed.records.db.begin().await.unwrap();
        tx.append_event_log(entry);
        tx.commit().await.unwrap();
    };
    let keep = bed.services.config.retention.events.as_secs();
    log("old").await;
    bed.wait(i64::try_from(keep).unwrap() + 1);
    log("new").await;
    round(&bed.records, &bed.services.config.retention)
        .await
        .unwrap();
    let kept = bed.records.db.event_log_after(0, 10).await.unwrap();
    let kinds: Vec<_> = kept.iter().map(|entry| entry.entry.kind.as_str()).collect();
    assert_eq!(kinds, ["new"]);
}
