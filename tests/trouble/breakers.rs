//! Breakers: what breaks again and again is left alone, tried after a pause, and its incident ends when it works again.

use std::sync::Arc;
use std::time::Duration;

use host_domain::breaker::{FAILURES_MAX, PAUSE};
use host_domain::node::ApplicationHealth;
use host_domain::notification::DeliveryState;
use host_system::SystemClock;
use serde_json::{Value, json};

use super::bed::{Bed, Folder, policies, policy_plugin};
use crate::support::fake_clock::FakeClock;
use crate::support::wait::eventually;

/// The height at which the policy traps.
const POISON: i64 = 666;

#[tokio::test]
async fn a_policy_that_breaks_is_left_alone_tried_after_a_pause_and_well_again() {
    let folder = Arc::new(Folder::new());
    let plugins = json!({ "bad": policy_plugin(&json!({ "act": "poison" })) });
    let uses = json!({ "policies": policies(&["bad"]) });
    folder.chain("toy", &plugins, uses);
    let clock = FakeClock::new();
    let bed = Bed::start(&folder, Arc::new(clock.clone())).await;
    let node = bed.node("toy", None).await;
    bed.observe(node, POISON).await;
    let judge = async || bed.host.evaluation.run("toy").await.unwrap().remove(0).1;

    for _ in 0..FAILURES_MAX {
        assert!(!bed.stats("toy", "bad").await.is_open);
        assert_eq!(judge().await.health, ApplicationHealth::Unknown);
    }
    let stats = bed.stats("toy", "bad").await;
    assert!(stats.is_open, "{stats:?}");
    let incidents = bed.open("policy_error").await;
    assert_eq!(incidents.len(), 1);
    let codes: Vec<_> = incidents[0].reasons.iter().map(|one| &*one.code).collect();
    assert_eq!(codes, ["plugin_trap", "breaker_open"]);

    // It would judge, but nobody asks it.
    clock.advance(Duration::from_secs(1));
    bed.observe(node, 1).await;
    let kept_away = judge().await;
    assert_eq!(kept_away.health, ApplicationHealth::Unknown);
    assert_eq!(kept_away.reasons[0].code, "policy_error");
    assert_eq!(bed.stats("toy", "bad").await.calls, stats.calls);

    clock.advance(PAUSE);
    assert_eq!(judge().await.health, ApplicationHealth::Ok);
    let after = bed.stats("toy", "bad").await;
    assert_eq!((after.calls, after.is_open), (stats.calls + 1, false));
    assert_eq!(bed.open("policy_error").await, []);
    assert_eq!(bed.incidents("policy_error", false).await.len(), 1);
    assert_eq!(bed.incidents("node_down", false).await, []);
    bed.stop().await;
}

#[tokio::test]
async fn a_row_that_breaks_the_policy_opens_no_breaker() {
    let folder = Arc::new(Folder::new());
    let plugins = json!({ "bad": policy_plugin(&json!({ "act": "poison" })) });
    let uses = json!({ "policies": policies(&["bad"]) });
    folder.chain("toy", &plugins, uses);
    let bed = Bed::start(&folder, Arc::new(SystemClock)).await;
    let (sick, fine) = (bed.node("toy", None).await, bed.node("toy", None).await);
    bed.observe(sick, POISON).await;
    bed.observe(fine, 1).await;
    for _ in 0..2 * FAILURES_MAX {
        for (node, verdict) in bed.host.evaluation.run("toy").await.unwrap() {
            let is_judged = verdict.health == ApplicationHealth::Ok;
            assert_eq!(is_judged, node == fine);
        }
    }
    assert!(!bed.stats("toy", "bad").await.is_open);
    assert_eq!(bed.open("policy_error").await.len(), 1);
    bed.stop().await;
}

fn notifications(act: &str, routes: usize) -> Value {
    let route = |number: usize| {
        json!({
            "name": format!("route-{number}"), "receiver": "ops", "group_wait": "1s",
            "match": { "category": ["x-good-fork"] },
        })
    };
    json!({
        "plugins": { "bad": { "component": "components/hostile-notifier.wasm" } },
        "receivers": [{ "name": "ops", "plugin": "bad", "with": { "act": act } }],
        "routes": (0..routes).map(route).collect::<Vec<_>>(),
    })
}

#[tokio::test]
async fn a_notifier_that_breaks_is_left_alone_and_loses_no_message() {
    let folder = Arc::new(Folder::new());
    let config = json!({ "act": "behave", "incident": "fork" });
    let plugins = json!({ "good": policy_plugin(&config) });
    let uses = json!({ "policies": policies(&["good"]) });
    folder.chain("toy", &plugins, uses);
    // One message by each route, all for the same receiver.
    let n_routes = usize::try_from(FAILURES_MAX).unwrap() + 1;
    folder.write("notifications/all.yaml", notifications("trap", n_routes));
    let clock = FakeClock::new();
    let bed = Bed::start(&folder, Arc::new(clock.clone())).await;
    let node = bed.node("toy", None).await;
    bed.observe(node, 13).await;
    bed.host.evaluation.run("toy").await.unwrap();
    clock.advance(Duration::from_secs(2));

    let limit = Duration::from_secs(30);
    eventually("the breaker opens", limit, async || {
        let stats = bed.stats("notifications", "bad").await;
        stats.is_open.then_some(())
    })
    .await;
    let broken = bed.open("plugin_error").await;
    assert_eq!(broken.len(), 1, "{broken:#?}");
    assert_eq!(broken[0].key.subject_id, "notifications/bad");
    let cause = bed.open("x-good-fork").await.remove(0);
    let messages = bed.db.notifications_of(cause.id, None, 100).await.unwrap();
    assert_eq!(messages.len(), n_routes);
    for message in &messages {
        assert_eq!(message.state, DeliveryState::Pending, "{message:#?}");
    }

    folder.write("notifications/all.yaml", notifications("behave", n_routes));
    bed.reload().await.unwrap();
    clock.advance(PAUSE);
    eventually(
        "every message arrives",
        Duration::from_mins(1),
        async || {
            let messages = bed.db.notifications_of(cause.id, None, 100).await.unwrap();
            let is_there = |state| state == DeliveryState::Delivered;
            messages
                .iter()
                .all(|message| is_there(message.state))
                .then_some(())
        },
    )
    .await;
    assert_eq!(bed.open("plugin_error").await, []);
    assert!(!bed.stats("notifications", "bad").await.is_open);
    bed.stop().await;
}
