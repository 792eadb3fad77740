//! Reloads under evaluation: every round judges every node once, by the policies of one moment.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use host_domain::health::Verdict;
use host_domain::ids::NodeId;
use host_server::host::Evaluation;
use host_system::SystemClock;
use serde_json::{Value, json};

use super::bed::{Bed, Folder, policies, policy_plugin};

const N_NODES: usize = 5;
const N_RELOADS: u32 = 100;

/// Two plugins that mark every verdict with the revision they come from.
fn marked(revision: u32) -> Value {
    let plugin = policy_plugin(&json!({
        "act": "behave", "incident": "fork", "mark": format!("revision-{revision}"),
    }));
    json!({ "one": plugin, "two": plugin })
}

/// The one mark of a round in which every node was judged once and by both policies.
fn mark(round: &[(NodeId, Verdict)], nodes: &BTreeSet<NodeId>) -> u32 {
    let judged: Vec<NodeId> = round.iter().map(|(node, _)| *node).collect();
    assert_eq!(judged.len(), nodes.len(), "each node once");
    assert_eq!(&judged.into_iter().collect::<BTreeSet<_>>(), nodes);
    let mut marks = BTreeSet::new();
    for (node, verdict) in round {
        let codes = verdict.reasons.iter().map(|reason| reason.code.as_str());
        let of_node: BTreeSet<&str> = codes.collect();
        assert_eq!(of_node.len(), 1, "{node}: {:?}", verdict.reasons);
        marks.extend(of_node);
    }
    assert_eq!(marks.len(), 1, "a round of two revisions: {marks:?}");
    let mark = marks
        .first()
        .and_then(|mark| mark.strip_prefix("revision-"));
    mark.unwrap().parse().unwrap()
}

/// Evaluates without a pause until `stop`; returns the marks of all rounds.
async fn evaluate_on(
    evaluation: Evaluation,
    nodes: BTreeSet<NodeId>,
    stop: Arc<AtomicBool>,
) -> Vec<u32> {
    let mut marks = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let round = evaluation.run("toy").await.unwrap();
        marks.push(mark(&round, &nodes));
    }
    marks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_round_is_lost_or_a_mix_while_policies_are_reloaded_a_hundred_times() {
    let folder = Arc::new(Folder::new());
    let uses = json!({ "policies": policies(&["one", "two"]) });
    folder.chain("toy", &marked(0), uses);
    let bed = Bed::start(&folder, Arc::new(SystemClock)).await;
    let mut nodes = BTreeSet::new();
    for _ in 0..N_NODES {
        let node = bed.node("toy", None).await;
        bed.observe(node, 13).await;
        nodes.insert(node);
    }
    let first = bed.host.evaluation.run("toy").await.unwrap();
    assert_eq!(mark(&first, &nodes), 0);
    let opened = bed.open("x-one-fork").await;
    assert_eq!(opened.len(), N_NODES);

    let stop = Arc::new(AtomicBool::new(false));
    let rounds = tokio::spawn(evaluate_on(
        bed.host.evaluation.clone(),
        nodes.clone(),
        Arc::clone(&stop),
    ));
    for revision in 1..=N_RELOADS {
        folder.profile("toy", &marked(revision));
        bed.reload().await.unwrap();
    }
    let last = bed.host.evaluation.run("toy").await.unwrap();
    assert_eq!(mark(&last, &nodes), N_RELOADS);
    stop.store(true, Ordering::SeqCst);
    let marks = rounds.await.unwrap();

    assert!(marks.is_sorted(), "an old revision came back: {marks:?}");
    let seen: BTreeSet<u32> = marks.iter().copied().collect();
    assert!(seen.len() > 10, "rounds saw too few revisions: {seen:?}");
    assert_eq!(bed.incidents("policy_error", false).await, []);
    let still = bed.incidents("x-one-fork", false).await;
    assert_eq!(still.len(), N_NODES);
    for incident in still {
        assert_eq!((incident.occurrences, incident.resolved_at), (1, None));
    }
    bed.stop().await;
}
