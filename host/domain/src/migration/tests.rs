//! Tables for each reason to wait, and properties of the chosen nodes.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const NOW: Millis = Millis(100_000_000);

fn region(name: &str) -> Region {
    Region {
        provider: "byo".to_owned(),
        region: name.to_owned(),
    }
}

fn down(number: u128, minutes: u64) -> Candidate {
    Candidate {
        node_id: NodeId(Uuid::from_u128(number)),
        region: region("a"),
        down_since: Some(NOW.minus(Duration::from_mins(minutes))),
        last_triggered_at: None,
    }
}

fn moved(minutes: u64) -> Candidate {
    Candidate {
        last_triggered_at: Some(NOW.minus(Duration::from_mins(minutes))),
        ..down(1, 120)
    }
}

#[test]
fn each_reason_to_leave_a_node_where_it_is() {
    let config = MigrationConfig::default();
    let health = |nodes, down| RegionHealth { nodes, down };
    let up = Candidate {
        down_since: None,
        ..down(1, 0)
    };
    for (candidate, region, n_active, expected) in [
        (up, health(9, 0), 0, Err(Held::NotDown)),
        (down(1, 4), health(9, 1), 0, Err(Held::Grace)),
        (down(1, 5), health(9, 1), 0, Ok(())),
        (moved(59), health(9, 1), 0, Err(Held::Cooldown)),
        (moved(60), health(9, 1), 0, Ok(())),
        (down(1, 5), health(10, 3), 0, Ok(())),
        (down(1, 5), health(10, 4), 0, Err(Held::Breaker)),
        (down(1, 5), health(9, 3), 0, Err(Held::Breaker)),
        (down(1, 5), health(2, 2), 0, Err(Held::Breaker)),
        // A single node is never an outage.
        (down(1, 5), health(1, 1), 0, Ok(())),
        (down(1, 5), health(9, 1), 2, Ok(())),
        (down(1, 5), health(9, 1), 3, Err(Held::Concurrency)),
    ] {
        let place = format!("{candidate:?} {region:?} {n_active}");
        let held = may_move(&candidate, region, n_active, NOW, &config);
        assert_eq!(held, expected, "{place}");
    }
}

#[test]
fn a_fence_outlasts_the_last_answer_that_may_have_been_given() {
    let config = MigrationConfig::default();
    let ends = fence_ends(Millis(0), &config);
    assert_eq!(ends, Millis(30_000 + 300_000 + 15_000));
    let short = MigrationConfig {
        lease: Duration::from_secs(4),
        lease_margin: Duration::from_secs(1),
        ..config
    };
    assert_eq!(fence_ends(Millis(0), &short), Millis(2_000 + 4_000 + 1_000));
}

#[test]
fn those_that_are_down_for_the_longest_time_go_first() {
    let candidates = [down(1, 6), down(2, 60), down(3, 30), down(4, 10)];
    let regions = BTreeMap::from([(region("a"), RegionHealth { nodes: 20, down: 4 })]);
    let chosen = choose(&candidates, &regions, 1, NOW, &MigrationConfig::default());
    assert_eq!(chosen, [2, 3].map(|number| NodeId(Uuid::from_u128(number))));
}

proptest! {
    #[test]
    fn no_choice_breaks_a_rule(
        nodes in prop::collection::vec((0_u64..20, prop::option::of(0_u64..120), 0_u8..3), 0..40),
        n_others in 0_u32..60,
        n_active in 0_u32..5,
    ) {
        let config = MigrationConfig::default();
        let candidates: Vec<Candidate> = nodes.iter().zip(1..).map(|((minutes, moved, place), number)| Candidate {
            region: region(["a", "b", "c"][usize::from(*place)]),
            last_triggered_at: moved.map(|minutes| NOW.minus(Duration::from_mins(minutes))),
            ..down(number, *minutes)
        }).collect();
        let mut regions = BTreeMap::<Region, RegionHealth>::new();
        for candidate in &candidates {
            let health = regions.entry(candidate.region.clone()).or_default();
            health.nodes += 1 + n_others;
            health.down += 1;
        }
        let chosen = choose(&candidates, &regions, n_active, NOW, &config);
        prop_assert!(u32::try_from(chosen.len()).unwrap() + n_active <= config.max_concurrent.max(n_active));
        for candidate in candidates.iter().filter(|candidate| chosen.contains(&candidate.node_id)) {
            prop_assert!(NOW.since(candidate.down_since.unwrap()) >= config.grace);
            prop_assert!(candidate.last_triggered_at.is_none_or(|at| NOW.since(at) >= config.cooldown));
            prop_assert!(!regions[&candidate.region].is_outage(config.breaker_percent));
        }
        // A node that could move but was not chosen exceeds the limit.
        let may = |candidate: &&Candidate| may_move(candidate, regions[&candidate.region], n_active, NOW, &config).is_ok();
        let n_able = u32::try_from(candidates.iter().filter(may).count()).unwrap();
        let room = config.max_concurrent.saturating_sub(n_active);
        prop_assert_eq!(u32::try_from(chosen.len()).unwrap(), n_able.min(room));
    }
}
