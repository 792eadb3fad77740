//! Incidents that a policy raises itself.

use std::sync::Arc;

use host_domain::ids::NodeId;
use host_domain::incident::{IncidentState, SubjectKind};
use host_system::SystemClock;
use serde_json::json;

use super::bed::{Bed, Folder, policies, policy_plugin};

/// The height for which the policy names its incident, and the one at which it traps.
const NAMED: i64 = 13;
const POISON: i64 = 666;

async fn judge(bed: &Bed, node: NodeId, height: i64) {
    bed.observe(node, height).await;
    bed.host.evaluation.run("toy").await.unwrap();
}

#[tokio::test]
async fn a_policys_own_incident_is_raised_once_and_ends_when_it_is_named_no_more() {
    let folder = Arc::new(Folder::new());
    let plugins = |mark: &str| {
        let config = json!({ "act": "poison", "incident": "fork", "mark": mark });
        json!({ "heights": policy_plugin(&config) })
    };
    let uses = json!({ "policies": policies(&["heights"]) });
    folder.chain("toy", &plugins("one"), uses);
    let clock = crate::support::fake_clock::FakeClock::new();
    let bed = Bed::start(&folder, Arc::new(clock.clone())).await;
    let node = bed.node("toy", None).await;
    judge(&bed, node, NAMED).await;
    let open = bed.open("x-heights-fork").await;
    assert_eq!(open.len(), 1);
    let opened = &open[0];
    assert_eq!(opened.key.subject_kind, SubjectKind::Node);
    assert_eq!(opened.key.subject_id, node.to_string());
    assert!(opened.title.contains("an incident was asked for"));

    // Named again and again: nothing is written.
    let version = async || bed.db.health_state(node).await.unwrap().unwrap().version;
    let before = version().await;
    for _ in 0..5 {
        bed.host.evaluation.run("toy").await.unwrap();
    }
    assert_eq!(version().await, before);

    // Neither a reload nor a policy that can't judge says anything about it.
    folder.profile("toy", &plugins("two"));
    bed.reload().await.unwrap();
    bed.host.evaluation.run("toy").await.unwrap();
    clock.advance(std::time::Duration::from_secs(1));
    judge(&bed, node, POISON).await;
    assert_eq!(bed.open("policy_error").await.len(), 1);
    let open = bed.open("x-heights-fork").await;
    assert_eq!((open[0].id, open[0].occurrences), (opened.id, 1));

    clock.advance(std::time::Duration::from_secs(1));
    judge(&bed, node, 14).await;
    let over = bed.incidents("x-heights-fork", false).await;
    assert_eq!(over.len(), 1);
    assert_eq!(over[0].state, IncidentState::Resolved);
    bed.stop().await;
}

#[tokio::test]
async fn an_own_incident_survives_a_restart_of_the_host() {
    let folder = Arc::new(Folder::new());
    let config = json!({ "act": "behave", "incident": "x-hostile-policy-fork" });
    let plugins = json!({ "heights": policy_plugin(&config) });
    let uses = json!({ "policies": policies(&["heights"]) });
    folder.chain("toy", &plugins, uses);
    let bed = Bed::start(&folder, Arc::new(SystemClock)).await;
    let node = bed.node("toy", None).await;
    judge(&bed, node, NAMED).await;
    bed.stop().await;
    let bed = Bed::start(&folder, Arc::new(SystemClock)).await;
    bed.host.evaluation.run("toy").await.unwrap();
    let open = bed.open("x-heights-fork").await;
    assert_eq!((open.len(), open[0].occurrences), (1, 1));
    judge(&bed, node, 14).await;
    assert_eq!(bed.open("x-heights-fork").await, []);
    bed.stop().await;
}
