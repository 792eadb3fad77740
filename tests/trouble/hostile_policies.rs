//! Policies that misbehave in a running host, beside one that does not.

use std::sync::Arc;

use host_domain::incident::SubjectKind;
use host_domain::node::ApplicationHealth;
use host_system::SystemClock;
use serde_json::{Value, json};

use super::bed::{Bed, Folder, policies, policy_plugin};

/// What each does, and the word in its incident that names it.
const ACTS: [(&str, &str); 5] = [
    ("loop", "CPU time"),
    ("memory", "memory"),
    ("answer", "to the host at once"),
    ("recurse", "stack"),
    ("trap", "trapped"),
];

fn beside_a_good_one(bad: &Value) -> Value {
    json!({ "bad": bad, "good": policy_plugin(&json!({ "act": "behave" })) })
}

#[tokio::test]
async fn each_hostile_policy_is_one_incident_of_its_plugin_and_the_others_judge_on() {
    let folder = Arc::new(Folder::new());
    let uses = || json!({ "policies": policies(&["bad", "good"]) });
    for (act, _) in ACTS {
        let bad = policy_plugin(&json!({ "act": act, "from_height": 1 }));
        folder.chain(act, &beside_a_good_one(&bad), uses());
    }
    // Reaches for HTTP, which is not in its world.
    let import = json!({ "component": "components/http-policy.wasm" });
    folder.chain("import", &beside_a_good_one(&import), uses());
    let bed = Bed::start(&folder, Arc::new(SystemClock)).await;

    let all = ACTS.iter().copied().chain([("import", "does not have")]);
    for (chain, word) in all {
        let node = bed.node(chain, None).await;
        bed.observe(node, 1).await;
        // Often enough for every breaker to open.
        for round in 0..6 {
            let judged = bed.host.evaluation.run(chain).await.unwrap();
            assert_eq!(judged.len(), 1, "{chain}");
            let (id, verdict) = &judged[0];
            assert_eq!(*id, node);
            assert_eq!(verdict.health, ApplicationHealth::Ok, "{chain}, {round}");
            let codes: Vec<_> = verdict.reasons.iter().map(|one| &*one.code).collect();
            assert_eq!(codes, ["policy_error"], "{chain}, {round}");
        }
        let stored = bed.db.node(node).await.unwrap().unwrap();
        assert_eq!(stored.condition.application_health, ApplicationHealth::Ok);
        let of_chain: Vec<_> = bed
            .open("policy_error")
            .await
            .into_iter()
            .filter(|incident| incident.subject_name.starts_with(&format!("{chain}/")))
            .collect();
        assert_eq!(of_chain.len(), 1, "{chain}: {of_chain:#?}");
        let incident = &of_chain[0];
        assert_eq!(incident.key.subject_kind, SubjectKind::Plugin);
        assert_eq!(incident.key.subject_id, format!("{chain}/bad"));
        assert!(incident.title.contains(word), "{chain}: {}", incident.title);
        // Once when it began and once when the breaker opened, here or in the host's own loop; not once a round.
        assert!(incident.occurrences <= 4, "{chain}: {incident:#?}");
        // What could not be loaded is never called.
        let is_open = bed.stats(chain, "bad").await.is_open;
        assert_eq!(is_open, chain != "import", "{chain}");
        assert!(!bed.stats(chain, "good").await.is_open);
    }
    assert_eq!(bed.open("policy_error").await.len(), ACTS.len() + 1);
    for category in ["node_down", "node_critical", "node_degraded"] {
        assert_eq!(bed.incidents(category, false).await, [], "{category}");
    }
    bed.stop().await;
}

#[tokio::test]
async fn an_import_outside_the_world_is_refused_at_a_reload_and_the_old_policy_judges_on() {
    let folder = Arc::new(Folder::new());
    let good = json!({ "policy": policy_plugin(&json!({ "act": "behave", "mark": "good" })) });
    let uses = json!({ "policies": policies(&["policy"]) });
    folder.chain("toy", &good, uses);
    let bed = Bed::start(&folder, Arc::new(SystemClock)).await;
    bed.node("toy", None).await;

    let import = json!({ "policy": { "component": "components/http-policy.wasm" } });
    folder.profile("toy", &import);
    let refused = bed.reload().await.unwrap_err().to_string();
    assert!(refused.contains("does not have"), "{refused}");
    let rejected = bed.open("config_rejected").await;
    assert_eq!(rejected.len(), 1, "{rejected:#?}");
    assert_eq!(rejected[0].key.subject_kind, SubjectKind::Plugin);
    let judged = bed.host.evaluation.run("toy").await.unwrap();
    assert_eq!(judged[0].1.reasons[0].code, "good");

    folder.profile("toy", &good);
    bed.reload().await.unwrap();
    assert_eq!(bed.open("config_rejected").await, []);
    assert_eq!(bed.incidents("policy_error", false).await, []);
    bed.stop().await;
}
