//! What every bus holds: inside one process, and on both versions of the servers.

use std::collections::BTreeSet;
use std::time::Duration;

use host_bus::{Bus, BusError, Wake};
use host_domain::event::HealthTransitionEvent;

use super::{Audit, run};
use crate::store::builders::{event, node};
use crate::support::nats::{Nats, Version};
use crate::support::wait::eventually;

pub(super) const LIMIT: Duration = Duration::from_mins(3);

pub(super) fn events(n: i64) -> Vec<HealthTransitionEvent> {
    let node = node("a");
    (1..=n).map(|version| event(&node, version)).collect()
}

/// Gives events until all are taken, as the outbox does.
pub(super) async fn give(bus: &Bus, events: &[HealthTransitionEvent]) {
    let mut rest = events;
    let mut refused = Vec::new();
    let all = tokio::time::timeout(LIMIT, async {
        while !rest.is_empty() {
            let given = bus.publish(rest).await;
            rest = &rest[given.n_taken..];
            refused.push(format!("{:?} {:?}", given.refused, bus.state()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(all.await.is_ok(), "not within {LIMIT:?}: {refused:#?}");
}

pub(super) async fn arrived(audit: &Audit, versions: &[i64]) {
    let all = eventually("events arrive", LIMIT, async || {
        let seen = audit.versions();
        (seen.len() >= versions.len()).then_some(seen)
    });
    assert_eq!(all.await, versions);
}

async fn contract(url: Option<&str>) {
    each_consumer_gets_each_event_once_and_in_order(url).await;
    an_event_that_can_not_be_taken_is_offered_again_and_the_next_wait(url).await;
    a_repeat_reaches_nobody(url).await;
}

async fn each_consumer_gets_each_event_once_and_in_order(url: Option<&str>) {
    let (one, two) = (Audit::new(), Audit::new());
    let host = run(url, "order", "a", &[("one", &one), ("two", &two)]).await;
    let versions: Vec<i64> = (1..=1_200).collect();
    give(&host.bus, &events(1_200)).await;
    arrived(&one, &versions).await;
    arrived(&two, &versions).await;
}

async fn an_event_that_can_not_be_taken_is_offered_again_and_the_next_wait(url: Option<&str>) {
    let audit = Audit::new();
    let host = run(url, "again", "a", &[("one", &audit)]).await;
    *audit.refuses.lock().unwrap() = 3;
    give(&host.bus, &events(3)).await;
    arrived(&audit, &[1, 2, 3]).await;
    assert_eq!(*audit.refuses.lock().unwrap(), 0);
}

async fn a_repeat_reaches_nobody(url: Option<&str>) {
    let audit = Audit::new();
    let host = run(url, "repeat", "a", &[("one", &audit)]).await;
    let events = events(4);
    give(&host.bus, &events[..2]).await;
    // All that was taken again, and then what is new: also from another host.
    let other = run(url, "repeat", "b", &[]).await;
    let bus = if url.is_some() { &other.bus } else { &host.bus };
    give(bus, &events).await;
    arrived(&audit, &[1, 2, 3, 4]).await;
}

#[tokio::test]
async fn the_contract_holds_in_one_process() {
    contract(None).await;
}

#[tokio::test]
async fn the_contract_holds_on_nats_2_9() {
    let nats = Nats::shared(Version::Debian).await;
    contract(Some(&nats.url())).await;
    between_hosts(&nats.url()).await;
}

#[tokio::test]
async fn the_contract_holds_on_nats_2_15() {
    let nats = Nats::shared(Version::Newest).await;
    contract(Some(&nats.url())).await;
    between_hosts(&nats.url()).await;
}

/// What only servers can do.
async fn between_hosts(url: &str) {
    hosts_share_a_consumer(url).await;
    what_nobody_hears_waits_for_its_consumer(url).await;
    a_wake_up_reaches_the_others_only(url).await;
    installations_do_not_meet(url).await;
}

async fn hosts_share_a_consumer(url: &str) {
    let (here, there) = (Audit::new(), Audit::new());
    let one = run(Some(url), "share", "a", &[("one", &here)]).await;
    let _two = run(Some(url), "share", "b", &[("one", &there)]).await;
    let events = events(200);
    give(&one.bus, &events).await;
    let mut all = eventually("events arrive", LIMIT, async || {
        let all = [here.versions(), there.versions()].concat();
        (all.len() >= events.len()).then_some(all)
    })
    .await;
    all.sort_unstable();
    assert_eq!(all, (1..=200).collect::<Vec<_>>());
}

async fn what_nobody_hears_waits_for_its_consumer(url: &str) {
    let audit = Audit::new();
    // Made once, it is there without its host.
    drop(run(Some(url), "wait", "a", &[("one", &audit)]).await);
    let other = run(Some(url), "wait", "b", &[]).await;
    give(&other.bus, &events(3)).await;
    let _back = run(Some(url), "wait", "a", &[("one", &audit)]).await;
    arrived(&audit, &[1, 2, 3]).await;
}

async fn a_wake_up_reaches_the_others_only(url: &str) {
    let (one, two) = (
        run(Some(url), "wake", "a", &[]).await,
        run(Some(url), "wake", "b", &[]).await,
    );
    let mut heard = [one.bus.wakes().unwrap(), two.bus.wakes().unwrap()];
    let said = Wake::Workflow {
        workflow: "provision-x".to_owned(),
        mailbox: "agent".to_owned(),
    };
    // The other one's ear may open a moment later than its connection.
    let [own, others] = &mut heard;
    eventually("the other hears it", LIMIT, async || {
        one.bus.wake(said.clone());
        let wait = Duration::from_millis(200);
        match tokio::time::timeout(wait, others.recv()).await {
            Ok(Ok(wake)) if wake == said => Some(()),
            _ => None,
        }
    })
    .await;
    while let Ok(wake) = own.try_recv() {
        assert_ne!(wake, said, "its own words came back");
    }
}

async fn installations_do_not_meet(url: &str) {
    let (here, there) = (Audit::new(), Audit::new());
    let one = run(Some(url), "first", "a", &[("one", &here)]).await;
    let two = run(Some(url), "second", "a", &[("one", &there)]).await;
    give(&one.bus, &events(2)).await;
    give(&two.bus, &events(3)).await;
    arrived(&here, &[1, 2]).await;
    arrived(&there, &[1, 2, 3]).await;
}

#[tokio::test]
async fn a_server_that_is_killed_is_away_until_it_is_back() {
    let mut nats = Nats::start(Version::Debian).await;
    let audit = Audit::new();
    let host = run(Some(&nats.url()), "killed", "a", &[("one", &audit)]).await;
    let events = events(20);
    give(&host.bus, &events[..10]).await;
    nats.kill();
    eventually("the loss is seen", LIMIT, async || {
        host.bus.link().is_none().then_some(())
    })
    .await;
    let given = host.bus.publish(&events[10..]).await;
    assert!(matches!(
        (given.n_taken, given.refused),
        (0, Some(BusError::Away))
    ));
    nats.start_again().await;
    give(&host.bus, &events[10..]).await;
    eventually("every event arrives", LIMIT, async || {
        let seen: BTreeSet<i64> = audit.versions().into_iter().collect();
        (seen.len() == events.len()).then_some(())
    })
    .await;
    // What was taken and whose receipt died with the server comes once more, never before what it follows.
    assert_eq!(audit.out_of_order(), None);
}
