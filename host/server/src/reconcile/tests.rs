//! The rounds one by one, on a real database and with a clock that stands still until it is moved.

use std::cell::RefCell;
use std::collections::BTreeMap;

use host_domain::ids::EventId;
use host_domain::incident::{IncidentState, Severity, category};
use host_domain::node::{Node, NodeState};
use host_domain::time::Clock as _;

use super::{escalations, heartbeats, in_batches, outbox};
use crate::ops::{OpError, Principal};
use crate::test_bed::Bed;
use host_store::AuditFilter;

/// The node's state after one more round.
async fn judged(bed: &Bed, node: &Node) -> NodeState {
    heartbeats::round(&bed.records, &bed.services.config.health.heartbeat)
        .await
        .unwrap();
    let node = bed.records.db.node(node.id).await.unwrap().unwrap();
    node.condition.state
}

#[tokio::test]
async fn three_missed_evaluations_take_a_node_down_and_two_beats_bring_it_back() {
    use NodeState::{Down, Syncing};
    let bed = Bed::new().await;
    let node = bed.node(Syncing).await;
    bed.beat(&node).await;
    bed.wait(45);
    assert_eq!(judged(&bed, &node).await, Syncing, "45 s are not too long");
    bed.wait(1);
    let expected = [Syncing, Syncing, Down, Down];
    for (n, state) in expected.into_iter().enumerate() {
        assert_eq!(judged(&bed, &node).await, state, "evaluation {n}");
    }
    assert!(
        !bed.commits(heartbeats::round(
            &bed.records,
            &bed.services.config.health.heartbeat
        ))
        .await,
        "a node that stays down costs no row per evaluation"
    );
    bed.beat(&node).await;
    assert_eq!(judged(&bed, &node).await, Down, "one beat is not enough");
    bed.wait(15);
    bed.beat(&node).await;
    assert_ne!(judged(&bed, &node).await, Down);

    let steps: Vec<_> = bed.claim().await.into_iter().map(|one| one.event).collect();
    let [first] = steps.as_slice() else {
        panic!("one event of a node at a time: {steps:?}")
    };
    assert_eq!((first.before.state, first.after.state), (Syncing, Down));
}

#[tokio::test]
async fn nodes_that_fall_silent_together_go_down_in_one_transaction() {
    let bed = Bed::new().await;
    let mut nodes = Vec::new();
    for state in [NodeState::Syncing, NodeState::Healthy, NodeState::Degraded] {
        nodes.push(bed.node(state).await);
    }
    bed.wait(60);
    for n_committed in 1..=3 {
        let changes = bed.records.db.changes();
        let before = changes.borrow().any;
        judged(&bed, &nodes[0]).await;
        assert_eq!(changes.borrow().any, before + 1, "evaluation {n_committed}");
    }
    for node in &nodes {
        let node = bed.records.db.node(node.id).await.unwrap().unwrap();
        assert_eq!(node.condition.state, NodeState::Down);
    }
    let mut steps: Vec<_> = bed.claim().await.into_iter().map(|one| one.event).collect();
    steps.sort_by_key(|step| step.node_id);
    let of_nodes: Vec<_> = steps
        .iter()
        .map(|step| (step.node_id, step.before))
        .collect();
    let expected: Vec<_> = nodes.iter().map(|node| (node.id, node.condition)).collect();
    assert_eq!(of_nodes, expected, "one event each");
}

/// Applies decisions, of which some fail; gives how large each transaction was, what was applied, and the outcome.
async fn applied(
    n_decisions: usize,
    fails: impl Fn(usize) -> Option<OpError>,
) -> (Vec<usize>, Vec<usize>, Result<(), OpError>) {
    let decisions: Vec<usize> = (0..n_decisions).collect();
    let (tried, done) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let outcome = in_batches(&decisions, |batch| {
        tried.borrow_mut().push(batch.len());
        let failure = batch.iter().find_map(|one| fails(*one));
        if failure.is_none() {
            done.borrow_mut().extend(batch);
        }
        std::future::ready(failure.map_or(Ok(()), Err))
    })
    .await;
    (tried.into_inner(), done.into_inner(), outcome)
}

#[tokio::test]
async fn a_node_that_can_not_be_changed_holds_up_no_other_of_its_batch() {
    let (tried, done, outcome) = applied(201, |_| None).await;
    assert_eq!((tried, done.len()), (vec![100, 100, 1], 201));
    outcome.unwrap();

    let stale = |one| (one == 1).then(|| OpError::stale("node", one));
    let (tried, done, outcome) = applied(3, stale).await;
    assert_eq!((tried, done), (vec![3, 1, 1, 1], vec![0, 2]));
    outcome.unwrap();

    let broken = |one| (one == 1).then(|| OpError::invalid("/node", "is broken"));
    let (tried, done, outcome) = applied(3, broken).await;
    assert_eq!((tried, done), (vec![3, 1, 1, 1], vec![0, 2]));
    assert!(
        matches!(outcome, Err(OpError::Invalid { .. })),
        "{outcome:?}"
    );

    let away = |one| {
        (one == 1).then(|| OpError::Unavailable {
            what: "the database",
            source: anyhow::anyhow!("it is away"),
        })
    };
    let (tried, done, outcome) = applied(3, away).await;
    assert_eq!(
        (tried, done),
        (vec![3], vec![]),
        "the others would wait, too"
    );
    assert!(
        matches!(outcome, Err(OpError::Unavailable { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_beat_between_two_misses_begins_the_count_anew() {
    let bed = Bed::new().await;
    let node = bed.node(NodeState::Syncing).await;
    for _ in 0..3 {
        bed.wait(60);
        for _ in 0..2 {
            assert_eq!(judged(&bed, &node).await, NodeState::Syncing);
        }
        bed.beat(&node).await;
        assert_eq!(judged(&bed, &node).await, NodeState::Syncing);
    }
}

#[tokio::test]
async fn nodes_that_need_not_beat_are_left_alone() {
    let bed = Bed::new().await;
    for state in [
        NodeState::Provisioning,
        NodeState::Maintenance,
        NodeState::Terminating,
        NodeState::Terminated,
        NodeState::Failed,
    ] {
        let node = bed.node(state).await;
        bed.wait(3_600);
        for _ in 0..4 {
            assert_eq!(judged(&bed, &node).await, state);
        }
    }
}

#[tokio::test]
async fn an_event_that_can_not_be_handled_is_put_aside_after_ten_tries() {
    let bed = Bed::new().await;
    let node = bed.node(NodeState::Syncing).await;
    bed.wait(60);
    for _ in 0..3 {
        judged(&bed, &node).await;
    }
    let mut waited = Vec::new();
    for number in 1..=10 {
        // Pauses double up to five minutes; nothing is claimed before its time.
        let mut seconds = 0;
        let claimed = loop {
            match bed.claim().await.pop() {
                Some(claimed) => break claimed,
                None => bed.wait(1),
            }
            seconds += 1;
            assert!(seconds <= 300, "the event is never due again");
        };
        assert_eq!(claimed.attempts, number);
        waited.push(seconds);
        let error = OpError::stale("node", node.id);
        outbox::put_off(&bed.records, &bed.services.chains, &claimed, &error)
            .await
            .unwrap();
        let letters = bed.records.db.list_dead_letters(None, 10).await.unwrap();
        assert_eq!(letters.len(), usize::from(number == 10), "try {number}");
    }
    assert_eq!(waited, [0, 2, 4, 8, 16, 32, 64, 128, 256, 256]);
    bed.wait(3_600);
    assert!(
        bed.claim().await.is_empty(),
        "the node's next events may follow"
    );
    let [incident] = bed.incidents().await.try_into().unwrap();
    assert_eq!(
        (incident.key.category.as_str(), incident.severity),
        (category::EVENT_DEAD_LETTER, Severity::Critical)
    );
}

/// Puts the next event that is due aside.
async fn put_aside(bed: &Bed) -> EventId {
    let mut claimed = bed.claim().await.pop().unwrap();
    claimed.attempts = 10;
    let error = OpError::stale("node", claimed.event.node_id);
    outbox::put_off(&bed.records, &bed.services.chains, &claimed, &error)
        .await
        .unwrap();
    claimed.event.id
}

/// Incidents that are not resolved.
async fn unresolved(bed: &Bed) -> Vec<String> {
    let all = bed.incidents().await.into_iter();
    let open = all.filter(|one| one.state != IncidentState::Resolved);
    open.map(|one| one.key.category).collect()
}

#[tokio::test]
async fn what_was_put_aside_is_handled_when_it_is_put_back() {
    let bed = Bed::new().await;
    let node = bed.node(NodeState::Syncing).await;
    bed.wait(60);
    for _ in 0..3 {
        judged(&bed, &node).await;
    }
    let id = put_aside(&bed).await;
    assert_eq!(unresolved(&bed).await, [category::EVENT_DEAD_LETTER]);
    let who = Principal::host();
    for _ in 0..2 {
        // Again, while it waits, changes nothing.
        bed.ops.dead_letters.requeue(&who, id).await.unwrap();
    }
    assert_eq!(unresolved(&bed).await, [""; 0]);
    outbox::round(&bed.records, &bed.services.chains)
        .await
        .unwrap();
    assert_eq!(unresolved(&bed).await, [category::NODE_DOWN]);
    let again = bed.ops.dead_letters.requeue(&who, id).await;
    assert!(matches!(again, Err(OpError::NotFound { .. })), "{again:?}");
    let acts = bed
        .records
        .db
        .list_audit(&AuditFilter::default(), None, 10)
        .await
        .unwrap();
    let acts = acts
        .iter()
        .filter(|act| act.action == "requeue_dead_letter");
    assert_eq!(acts.count(), 1, "written down once");
}

#[tokio::test]
async fn what_is_put_back_late_says_only_what_still_holds() {
    let bed = Bed::new().await;
    let node = bed.node(NodeState::Syncing).await;
    bed.wait(60);
    for _ in 0..3 {
        judged(&bed, &node).await;
    }
    let id = put_aside(&bed).await;
    for _ in 0..2 {
        bed.beat(&node).await;
        judged(&bed, &node).await;
        bed.wait(15);
    }
    outbox::round(&bed.records, &bed.services.chains)
        .await
        .unwrap();
    let who = Principal::host();
    bed.ops.dead_letters.requeue(&who, id).await.unwrap();
    outbox::round(&bed.records, &bed.services.chains)
        .await
        .unwrap();
    assert_eq!(
        bed.records
            .db
            .outbox_lag(bed.clock.now())
            .await
            .unwrap()
            .n_waiting,
        0
    );
    assert_eq!(unresolved(&bed).await, [""; 0], "it is up by now");
}

#[tokio::test]
async fn the_incident_of_what_was_put_aside_ends_with_the_last_of_its_node() {
    let bed = Bed::new().await;
    let node = bed.node(NodeState::Syncing).await;
    bed.wait(60);
    for _ in 0..3 {
        judged(&bed, &node).await;
    }
    let first = put_aside(&bed).await;
    for _ in 0..2 {
        bed.beat(&node).await;
        judged(&bed, &node).await;
        bed.wait(15);
    }
    let second = put_aside(&bed).await;
    let who = Principal::host();
    bed.ops.dead_letters.requeue(&who, first).await.unwrap();
    assert_eq!(unresolved(&bed).await, [category::EVENT_DEAD_LETTER]);
    bed.ops.dead_letters.requeue(&who, second).await.unwrap();
    assert_eq!(unresolved(&bed).await, [""; 0]);
}

#[tokio::test]
async fn a_node_that_goes_down_is_one_incident_and_its_event_is_handled_once() {
    let bed = Bed::new().await;
    let node = bed.node(NodeState::Syncing).await;
    bed.wait(60);
    for _ in 0..3 {
        judged(&bed, &node).await;
    }
    assert!(
        bed.commits(outbox::round(&bed.records, &bed.services.chains))
            .await
    );
    assert!(
        !bed.commits(outbox::round(&bed.records, &bed.services.chains))
            .await,
        "a round that finds nothing wakes nobody"
    );
    let [incident] = bed.incidents().await.try_into().unwrap();
    assert_eq!(
        (incident.state, incident.occurrences),
        (IncidentState::Open, 1)
    );
    assert_eq!(incident.key.subject_id, node.id.to_string());
}

#[tokio::test]
async fn a_warning_that_nobody_took_becomes_critical_after_a_quarter_of_an_hour() {
    let bed = Bed::new().await;
    bed.raise(Severity::Warning).await;
    bed.raise(Severity::Critical).await;
    let round = || escalations::round(&bed.records, &bed.services.chains);
    bed.wait(899);
    assert!(!bed.commits(round()).await);
    bed.wait(1);
    assert!(bed.commits(round()).await);
    assert!(!bed.commits(round()).await, "once only");
    let found = bed.incidents().await;
    let found: BTreeMap<_, _> = found
        .iter()
        .map(|one| (one.key.subject_id.as_str(), (one.severity, one.state)))
        .collect();
    let states: Vec<_> = found.into_values().collect();
    assert!(
        states.contains(&(Severity::Critical, IncidentState::Escalated)),
        "{states:?}"
    );
    assert!(
        states.contains(&(Severity::Critical, IncidentState::Open)),
        "{states:?}"
    );
}
