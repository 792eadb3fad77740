//! What workflows do fails, is done twice, or is the last that a process does: each call once, with the real activities,
//! stores, engines and agents, on both kinds of installation.
//!
//! A host in which nothing goes wrong first shows which calls there are. Then each of them meets each mishap, with a node for
//! every case and all nodes at once; a host that killed itself is started again. The default suite takes a sample, in which
//! every mishap occurs; the exhaustive suite takes every case.

mod fleet;
mod host;
mod migrations;

use std::collections::BTreeSet;

use host_workflows::Workflow;
use host_workflows::provision_node::ProvisionNode;
use host_workflows::terminate_node::TerminateNode;
use serde_json::Value;

use self::fleet::{Case, Fleet, OneIn, cases, names};
use self::host::{Fault, Mishap};
use super::scene::{Scene, on_both_kinds};
use super::toy::{self, id_of};

/// It ends as if nothing had happened.
const HARMLESS: [Mishap; 2] = [Mishap::Twice, Mishap::AtOnce];
const FAILING: [Mishap; 2] = [Mishap::Refused, Mishap::Lost];
const KILLING: [Mishap; 2] = [Mishap::KilledBefore, Mishap::KilledAfter];
/// Only who waits in vain, or is told to stop, calls this.
const IMPATIENT: &str = "withdraw_command";
/// Where a provisioning is let fail when it is its undoing that is looked at.
const LATE_STEP: &str = "mark_syncing";

on_both_kinds!(
    every_activity_of_a_nodes_life_may_fail_or_be_done_twice,
    every_activity_of_a_nodes_life_may_be_the_last_of_a_process,
);

async fn every_activity_of_a_nodes_life_may_fail_or_be_done_twice(scene: Scene) {
    let sample = OneIn {
        embedded: 11,
        scaled: 23,
    };
    let mut fleet = Fleet::start(scene, "", sample).await;
    let all = [HARMLESS.as_slice(), &FAILING].concat();
    let living = provision(&mut fleet, &all, &HARMLESS).await;
    terminate(&mut fleet, living, &all).await;
}

async fn every_activity_of_a_nodes_life_may_be_the_last_of_a_process(scene: Scene) {
    let sample = OneIn {
        embedded: 17,
        scaled: 41,
    };
    let mut fleet = Fleet::start(scene, "", sample).await;
    let living = provision(&mut fleet, &KILLING, &KILLING).await;
    terminate(&mut fleet, living, &KILLING).await;
    assert!(fleet.n_ended > 0, "the host was killed");
}

/// A provisioning for each mishap of each call, also of those that undo; gives the nodes that live.
async fn provision(fleet: &mut Fleet, mishaps: &[Mishap], undoing: &[Mishap]) -> Vec<String> {
    let refused = Fault {
        call: LATE_STEP.to_owned(),
        mishap: Mishap::Refused,
    };
    let scouts = vec![Vec::new(), vec![refused.clone()]];
    let scouts = fleet.provision(scouts).await;
    fleet.ended("provision-", &scouts).await;
    let forward = fleet.files.calls(&scouts[0].workflow);
    let mut back = fleet.files.calls(&scouts[1].workflow);
    back.retain(|call| !forward.contains(call));
    let activities = ProvisionNode::ACTIVITIES.iter();
    let expected = activities.filter(|name| **name != IMPATIENT);
    let expected: BTreeSet<&str> = expected.copied().collect();
    assert_eq!(names(&[&forward, &back]), expected);

    let mut wanted = fleet.some_of(cases(&forward, mishaps, None));
    wanted.extend(fleet.some_of(cases(&back, undoing, Some(&refused))));
    let mut all = fleet.provision(wanted).await;
    fleet.ended("provision-", &all).await;
    all.extend(scouts);
    let wanted = |case: &Case| {
        if case.is_refused() {
            "failed"
        } else {
            "healthy"
        }
    };
    fleet.all_are(&all, wanted).await;
    let nodes = toy::all_nodes(&fleet.scene.dev).await.unwrap();
    toy::nothing_is_left_over(&fleet.scene.dev, &nodes).await;
    toy::nothing_is_left_in(&fleet.scene.database(), &nodes).await;
    fleet
        .incidents_are_of_the_failed("provision_failed", &nodes)
        .await;
    let living = nodes.iter().filter(|node| node["state"] == "healthy");
    living.map(id_of).collect()
}

/// A termination of nodes that live for each mishap of each call; those for which there is none live on.
async fn terminate(fleet: &mut Fleet, living: Vec<String>, mishaps: &[Mishap]) {
    let mut living = living.into_iter();
    let first = living.next().into_iter().collect();
    let scout = fleet.terminate(first, vec![Vec::new()]).await;
    fleet.ended("terminate-", &scout).await;
    let calls = fleet.files.calls(&scout[0].workflow);
    let failing = ["mark_failed", "fail_operation"];
    let is_called = |name: &&str| *name != IMPATIENT && !failing.contains(name);
    let activities = TerminateNode::ACTIVITIES.iter().copied();
    let expected: BTreeSet<&str> = activities.filter(is_called).collect();
    assert_eq!(names(&[&calls]), expected);

    let wanted = fleet.some_of(cases(&calls, mishaps, None));
    let mut chosen: Vec<String> = living.by_ref().take(wanted.len()).collect();
    let more = vec![Vec::new(); wanted.len() - chosen.len()];
    let more = fleet.provision(more).await;
    fleet.ended("provision-", &more).await;
    chosen.extend(more.into_iter().map(|case| case.node));
    let mut all = fleet.terminate(chosen, wanted).await;
    fleet.ended("terminate-", &all).await;
    all.extend(scout);
    let is_kept = |case: &&Case| is_kept_from_ending(case);
    let wanted = |case: &Case| match is_kept(&case) {
        // Nothing was done to it.
        true if case.faults.iter().any(|fault| fault.call == "back_up_keys") => "healthy",
        true => "failed",
        false => "terminated",
    };
    fleet.all_are(&all, wanted).await;
    let again = all.iter().filter(is_kept);
    let again = again.map(|case| case.node.clone()).collect();
    // What a failed one has left goes when it is asked for again.
    fleet.terminate(again, Vec::new()).await;
    let nodes = fleet.ended("terminate-", &all).await;
    let living = living.collect();
    for case in &all {
        let node = nodes.iter().find(|node| id_of(node) == case.node).unwrap();
        assert_eq!(node["placement"]["machine_id"], Value::Null, "{node:#}");
        let operation = node["operation_id"].as_str().unwrap();
        let path = format!("operations/{operation}");
        let operation = fleet.scene.dev.get(&path).await;
        assert_eq!(operation["state"], "succeeded", "{operation:#}");
        fleet.keys_are_retired(&case.node).await;
    }
    toy::only_these_are_at(&fleet.scene.dev, "agent", &living);
}

/// Whether a termination has to fail: there are several tries at each command, and its last word counts once it is said.
fn is_kept_from_ending(case: &Case) -> bool {
    case.faults.iter().any(|fault| match fault.call.as_str() {
        "mark_terminating" | "back_up_keys" | "destroy_machine" | "retire_keys" => {
            FAILING.contains(&fault.mishap)
        }
        "mark_terminated" => fault.mishap == Mishap::Refused,
        _ => false,
    })
}
