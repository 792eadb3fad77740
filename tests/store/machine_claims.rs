//! Claims to machines of nodes' own: each machine is one node's, however many want it at once, from however many machines.

use std::collections::BTreeMap;
use std::time::Duration;

use host_domain::agent::Machine;
use host_domain::claim::MachineClaim;
use host_domain::ids::{MachineId, NodeId};
use host_domain::migration::NodeMigration;
use host_domain::node::{Node, NodeState};
use host_domain::time::Millis;
use host_store::{Db, DbOptions, StoreError, retried};
use uuid::Uuid;

use super::builders::{machine, stored_node, stored_node_in};
use super::node_migrations::begin_migration;
use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    a_machine_is_its_nodes_until_that_lets_go(db).await;
    what_a_failed_node_left_behind_is_cleaned_or_taken_over(db).await;
    what_a_moved_node_left_behind_is_cleaned(db).await;
    a_node_is_held_until_the_transaction_ends(db).await;
    of_many_that_want_few_machines_each_gets_its_own(test).await;
}

async fn stored_machine(db: &Db, name: &str) -> Machine {
    let machine = machine(name);
    let mut tx = db.begin().await.unwrap();
    assert!(tx.insert_machine(&machine).await.unwrap());
    tx.commit().await.unwrap();
    machine
}

async fn claim(db: &Db, machine: MachineId, node: NodeId, at: i64) -> bool {
    let mut tx = db.begin().await.unwrap();
    let claimed = tx.claim_machine(machine, node, Millis(at)).await.unwrap();
    tx.commit().await.unwrap();
    claimed
}

async fn a_machine_is_its_nodes_until_that_lets_go(db: &Db) {
    let machine = stored_machine(db, "its-own").await.id;
    let (one, two) = (stored_node(db, "has-it").await, stored_node(db, "wants-it").await);
    assert_eq!(db.machine_claim(machine).await.unwrap(), None);
    assert!(claim(db, machine, one.id, 5).await);
    assert!(claim(db, machine, one.id, 6).await, "as often as it likes");
    assert!(!claim(db, machine, two.id, 7).await);
    let expected = MachineClaim {
        machine_id: machine,
        node_id: one.id,
        claimed_at: Millis(6),
        is_dirty: false,
        cleanings: 0,
        clean_after: Millis(0),
        cleaning_until: Millis(0),
    };
    assert_eq!(db.machine_claim(machine).await.unwrap(), Some(expected.clone()));
    // Only what a node left behind is cleaned.
    assert_eq!(db.machine_claims_to_clean(Millis(99), 9).await.unwrap(), []);
    let mut tx = db.begin().await.unwrap();
    let begun = tx.begin_cleaning(&expected, Millis(8), Millis(9)).await;
    assert_eq!(begun.unwrap(), None);
    assert!(!tx.release_machine(machine, two.id).await.unwrap(), "not its own");
    assert!(tx.release_machine(machine, one.id).await.unwrap());
    assert!(!tx.release_machine(machine, one.id).await.unwrap());
    tx.commit().await.unwrap();
    assert!(claim(db, machine, two.id, 8).await);
}

async fn what_a_failed_node_left_behind_is_cleaned_or_taken_over(db: &Db) {
    let machine = stored_machine(db, "left-behind").await.id;
    let failed = stored_node_in(db, "failed-on-it", NodeState::Failed).await;
    let next = stored_node(db, "next-on-it").await;
    assert!(claim(db, machine, failed.id, 5).await);
    let found = db.machine_claims_to_clean(Millis(10), 9).await.unwrap();
    let [left] = &found[..] else { panic!("{found:?}") };
    assert_eq!((left.machine_id, left.node_id), (machine, failed.id));

    let mut tx = db.begin().await.unwrap();
    let until = Millis(20);
    assert_eq!(tx.begin_cleaning(left, Millis(10), until).await.unwrap(), Some(1));
    assert_eq!(tx.begin_cleaning(left, Millis(19), until).await.unwrap(), None);
    tx.commit().await.unwrap();
    assert_eq!(db.machine_claims_to_clean(Millis(19), 9).await.unwrap(), []);
    assert!(!claim(db, machine, next.id, 19).await, "somebody cleans it");
    // Whoever was at it may have died.
    assert_eq!(db.machine_claims_to_clean(Millis(20), 9).await.unwrap().len(), 1);

    let mut tx = db.begin().await.unwrap();
    assert!(tx.put_off_cleaning(left, Millis(50)).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(db.machine_claims_to_clean(Millis(49), 9).await.unwrap(), []);
    assert_eq!(db.machine_claims_to_clean(Millis(50), 0).await.unwrap(), []);
    let again = db.machine_claims_to_clean(Millis(50), 9).await.unwrap();
    assert_eq!((again.len(), again[0].cleanings), (1, 1));

    assert!(claim(db, machine, next.id, 21).await, "nobody cleans it");
    let taken = db.machine_claim(machine).await.unwrap().unwrap();
    assert_eq!((taken.node_id, taken.is_dirty, taken.cleanings), (next.id, true, 0));
    assert!(claim(db, machine, next.id, 22).await);
    assert!(db.machine_claim(machine).await.unwrap().unwrap().is_dirty, "still");
    let mut tx = db.begin().await.unwrap();
    assert!(!tx.put_off_cleaning(left, Millis(60)).await.unwrap(), "another's");
    let late = tx.begin_cleaning(left, Millis(60), Millis(70)).await;
    assert_eq!(late.unwrap(), None, "another's");
    tx.commit().await.unwrap();
}

async fn what_a_moved_node_left_behind_is_cleaned(db: &Db) {
    let (old, new) = (stored_machine(db, "moved-from").await.id, stored_machine(db, "moved-to").await.id);
    let node = stored_node(db, "moved-on").await;
    let next = stored_node(db, "wants-the-old-one").await;
    assert!(claim(db, old, node.id, 5).await && claim(db, new, node.id, 5).await);
    let on = |machine| host_domain::node::Placement {
        machine_id: Some(machine),
        ..node.placement.clone()
    };
    let found = async || {
        let left = db.machine_claims_to_clean(Millis(99), 9).await.unwrap();
        let own = left.into_iter().filter(|left| left.node_id == node.id);
        own.collect::<Vec<_>>()
    };
    // Each way that a migration can end, from where the node is on.
    for (is_over, has_moved, place, left) in [
        (false, false, old, None),
        (false, true, new, None),
        (true, true, new, Some(old)),
        (true, false, old, Some(new)),
        // It could not be put back: both may be needed.
        (true, false, new, None),
    ] {
        let migration = begin_migration(db, &node, (old, new)).await;
        let ended = NodeMigration {
            ended_at: is_over.then_some(Millis(9)),
            has_moved,
            ..migration
        };
        let mut tx = db.begin().await.unwrap();
        tx.update_node_migration(&ended).await.unwrap();
        tx.set_placement(node.id, &on(place)).await.unwrap();
        tx.commit().await.unwrap();
        let machines: Vec<_> = found().await.iter().map(|left| left.machine_id).collect();
        assert_eq!(machines, Vec::from_iter(left), "{is_over} {has_moved}");
        let Some(left) = found().await.pop() else {
            forget(db, &ended).await;
            continue;
        };
        assert!(!claim(db, left.machine_id, next.id, 10).await, "not before it is clean");
        let mut tx = db.begin().await.unwrap();
        let begun = tx.begin_cleaning(&left, Millis(10), Millis(20)).await;
        assert_eq!(begun.unwrap(), Some(1));
        drop(tx);
        forget(db, &ended).await;
    }
}

/// Ends a migration in a way that leaves nothing behind.
async fn forget(db: &Db, migration: &NodeMigration) {
    let mut tx = db.begin().await.unwrap();
    let none = NodeMigration {
        target: None,
        ended_at: Some(Millis(9)),
        has_moved: false,
        version: migration.version + 1,
        ..migration.clone()
    };
    assert!(tx.update_node_migration(&none).await.unwrap().is_some());
    tx.commit().await.unwrap();
}

async fn a_node_is_held_until_the_transaction_ends(db: &Db) {
    let node = stored_node(db, "held").await;
    let mut tx = db.begin().await.unwrap();
    assert!(tx.hold_node(node.id).await.unwrap());
    assert!(!tx.hold_node(NodeId(Uuid::nil())).await.unwrap());
    let other = async {
        let mut tx = db.begin().await?;
        tx.set_operation(node.id, None).await?;
        tx.commit().await
    };
    tokio::pin!(other);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut other).await;
    assert!(early.is_err(), "it waits");
    tx.commit().await.unwrap();
    other.await.unwrap();
}

/// What a host does: looks for a machine that it can have, in one transaction.
async fn find(db: &Db, node: NodeId, machines: &[MachineId]) -> Result<Option<MachineId>, StoreError> {
    let mut tx = db.begin().await?;
    for machine in machines {
        // Others come in between.
        tokio::task::yield_now().await;
        if tx.claim_machine(*machine, node, Millis(1)).await? {
            tx.commit().await?;
            return Ok(Some(*machine));
        }
    }
    Ok(None)
}

async fn of_many_that_want_few_machines_each_gets_its_own(test: &TestDb) {
    const N_MACHINES: usize = 4;
    let (hosts, mut machines) = (hosts_on(test).await, Vec::new());
    for number in 0..N_MACHINES {
        machines.push(stored_machine(&test.db, &format!("wanted-{number}")).await.id);
    }
    let mut wanting = Vec::new();
    for number in 0..12 {
        let node: Node = stored_node(&test.db, &format!("wanting-{number}")).await;
        // Two hosts look for each node at once.
        for db in &hosts {
            let (db, machines) = (db.clone(), machines.clone());
            wanting.push(tokio::spawn(async move {
                let found = retried(|| find(&db, node.id, &machines)).await.unwrap();
                (node.id, found)
            }));
        }
    }
    let mut owners: BTreeMap<MachineId, NodeId> = BTreeMap::new();
    for one in wanting {
        let (node, Some(machine)) = one.await.unwrap() else { continue };
        assert_eq!(*owners.entry(machine).or_insert(node), node, "one machine, one node");
    }
    assert_eq!(owners.len(), N_MACHINES, "none is left over");
    for (machine, node) in owners {
        let stored = test.db.machine_claim(machine).await.unwrap().unwrap();
        assert_eq!(stored.node_id, node);
    }
}

/// The database as two processes see it.
async fn hosts_on(test: &TestDb) -> [Db; 2] {
    if test.db.is_sqlite() {
        return [test.db.clone(), test.db.clone()];
    }
    let other = Db::open(&test.url, &DbOptions::default()).await.unwrap();
    [test.db.clone(), other]
}
