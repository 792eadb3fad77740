//! The same for nodes that move: what moved is at the new host alone, and what could not move is where it was.

use std::collections::BTreeSet;
use std::time::Duration;

use host_workflows::Workflow;
use host_workflows::migrate_node::MigrateNode;
use serde_json::{Value, json};

use super::fleet::{Case, Fleet, OneIn, cases, names};
use super::host::{Fault, Mishap};
use super::{FAILING, HARMLESS, KILLING, LATE_STEP};
use crate::spine::scene::{Scene, on_both_kinds};
use crate::spine::toy::{self, id_of};
use crate::support::wait::eventually;

const SETTINGS: &str = "migration: {automatic: false, settle: 1s, lease: 12s, lease_margin: 1s, max_concurrent: 1000}\n";
/// Where nodes are made, and where they move to: the folders of two agents.
const SOURCE: &str = "agent";
const TARGET: &str = "agent-second";
/// The last step: when it is done there is no way back, whatever becomes of its answer.
const LAST_STEP: &str = "release_source";
/// Only nodes whose machine is their own call these; here several share one.
const OF_MACHINES: [&str; 5] = [
    "plan_machine",
    "create_machine",
    "bootstrap_agent",
    "check_agent",
    "revoke_enrolment_token",
];

on_both_kinds!(every_activity_of_a_migration_may_fail_be_done_twice_or_be_the_last_of_a_process);

async fn every_activity_of_a_migration_may_fail_be_done_twice_or_be_the_last_of_a_process(
    scene: Scene,
) {
    let sample = OneIn {
        embedded: 41,
        scaled: 97,
    };
    let mut fleet = Fleet::start(scene, SETTINGS, sample).await;
    let undoing = [HARMLESS.as_slice(), &KILLING].concat();
    let all = [undoing.as_slice(), &FAILING].concat();
    migrate(&mut fleet, &all, &undoing).await;
    assert!(fleet.n_ended > 0, "the host was killed");
}

/// A migration for each mishap of each call, away from an agent that was killed, which then comes back.
async fn migrate(fleet: &mut Fleet, mishaps: &[Mishap], undoing: &[Mishap]) {
    let gateway = fleet.scene.dev.gateway().await;
    fleet.scene.dev.start_agent_of("second", &gateway).await;
    let refused = Fault {
        call: LATE_STEP.to_owned(),
        mishap: Mishap::Refused,
    };
    let lost = Fault {
        call: LAST_STEP.to_owned(),
        mishap: Mishap::Lost,
    };
    let scouts = vec![Vec::new(), vec![refused.clone()], vec![lost.clone()]];
    let mut all = leave_the_source(fleet, scouts).await;
    let calls_of = |case: &Case| fleet.files.calls(&case.workflow);
    let forward = calls_of(&all[0]);
    let not_forward = |case: &Case| {
        let mut calls = calls_of(case);
        calls.retain(|call| !forward.contains(call));
        calls
    };
    let (back, concluded) = (not_forward(&all[1]), not_forward(&all[2]));
    let activities = MigrateNode::ACTIVITIES.iter().copied();
    let is_called = |name: &&str| !OF_MACHINES.contains(name);
    let expected: BTreeSet<&str> = activities.filter(is_called).collect();
    assert_eq!(names(&[&forward, &back, &concluded]), expected);
    all_is_where_it_belongs(fleet, &all).await;

    let mut wanted = fleet.some_of(cases(&forward, mishaps, None));
    wanted.extend(fleet.some_of(cases(&back, undoing, Some(&refused))));
    wanted.extend(fleet.some_of(cases(&concluded, undoing, Some(&lost))));
    all.extend(leave_the_source(fleet, wanted).await);
    all_is_where_it_belongs(fleet, &all).await;
}

/// Makes nodes, kills their agent, and moves them.
async fn leave_the_source(fleet: &mut Fleet, wanted: Vec<Vec<Fault>>) -> Vec<Case> {
    let made = fleet.provision(vec![Vec::new(); wanted.len()]).await;
    fleet.ended("provision-", &made).await;
    fleet.scene.dev.kill_agent();
    let ids: BTreeSet<&String> = made.iter().map(|case| &case.node).collect();
    let is_one = |node: &&Value| ids.contains(&id_of(node));
    eventually("all are down", Duration::from_mins(1), async || {
        let nodes = toy::all_nodes(&fleet.scene.dev).await?;
        let mut ours = nodes.iter().filter(is_one);
        ours.all(|node| node["state"] == "down").then_some(())
    })
    .await;
    for case in &made {
        let path = format!("nodes/{}/migrate", case.node);
        fleet.scene.dev.post(&path, &json!({ "force": true })).await;
    }
    let nodes = made.into_iter().map(|case| case.node).collect();
    let cases = fleet.plan("migrate-node-", nodes, wanted);
    fleet.ended("migrate-node-", &cases).await;
    let wanted = |case: &Case| if has_moved(case) { "healthy" } else { "down" };
    fleet.all_are(&cases, wanted).await;
    cases
}

fn has_moved(case: &Case) -> bool {
    let is_last = |fault: &Fault| fault.call == LAST_STEP && fault.mishap == Mishap::Lost;
    !case.is_refused() || case.faults.iter().any(is_last)
}

/// Lets the old agent come back: each node is then at one of the two, whole and healthy, and nothing of it at the other.
async fn all_is_where_it_belongs(fleet: &mut Fleet, cases: &[Case]) {
    let (moved, stayed): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| has_moved(case));
    let ids = |cases: &[&Case]| cases.iter().map(|case| case.node.clone()).collect();
    let (moved, stayed): (BTreeSet<String>, BTreeSet<String>) = (ids(&moved), ids(&stayed));
    // A process with a key ends while its host is away, and is started again when that is back.
    eventually("all that moved run", Duration::from_mins(1), async || {
        (toy::n_processes(&fleet.scene.dev, TARGET) == moved.len()).then_some(())
    })
    .await;
    toy::only_these_are_at(&fleet.scene.dev, TARGET, &moved);
    fleet.scene.dev.start_agent().await;
    let dev = &fleet.scene.dev;
    let nodes = eventually("all is well", Duration::from_mins(2), async || {
        let nodes = toy::all_nodes(dev).await?;
        let is_well = nodes.iter().all(|node| node["state"] == "healthy");
        let is_whole =
            toy::folders(dev, SOURCE) == stayed && toy::n_processes(dev, SOURCE) == stayed.len();
        (is_well && is_whole).then_some(nodes)
    })
    .await;
    toy::only_these_are_at(dev, SOURCE, &stayed);
    toy::only_these_are_at(dev, TARGET, &moved);
    toy::nothing_is_left_in(&fleet.scene.database(), &nodes).await;
}
