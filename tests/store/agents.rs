//! Machines, agents and the tokens by which they join.

use host_domain::agent::{Agent, EnrolmentToken, Machine};
use host_domain::ids::{AgentId, MachineId};
use host_domain::migration_target::MachineLoad;
use host_domain::time::Millis;
use host_store::Db;
use uuid::Uuid;

use super::builders::{agent, machine, stored_agent};
use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    hosts_have_their_own_names(db).await;
    the_newest_agent_of_a_host_counts(db).await;
    agents_are_touched_together(db).await;
    a_token_is_used_once(db).await;
}

async fn hosts_have_their_own_names(db: &Db) {
    let (one, two) = (machine("one"), machine("two"));
    let mut tx = db.begin().await.unwrap();
    assert!(tx.insert_machine(&one).await.unwrap());
    assert!(tx.insert_machine(&two).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(db.machine(one.id).await.unwrap(), Some(one.clone()));
    assert_eq!(db.machine_by_name("two").await.unwrap(), Some(two.clone()));
    assert_eq!(db.machine(MachineId(Uuid::nil())).await.unwrap(), None);
    let loads = async |after| db.machine_loads(&one, after, 9).await.unwrap();
    let empty = MachineLoad {
        machine: two.clone(),
        n_nodes: 0,
        agent_seen_at: None,
    };
    assert_eq!(loads(None).await, [empty], "not the machine itself");
    assert_eq!(loads(Some(two.id)).await, []);
    let elsewhere = Machine {
        region: "elsewhere".to_owned(),
        ..one.clone()
    };
    assert_eq!(db.machine_loads(&elsewhere, None, 9).await.unwrap(), []);
    let mut tx = db.begin().await.unwrap();
    assert!(!tx.insert_machine(&machine("one")).await.unwrap(), "its name is taken");
    assert_eq!(tx.machine_by_name("one").await.unwrap(), Some(one.clone()));
    assert!(tx.set_machine_ip(one.id, "10.0.0.1").await.unwrap());
    assert!(!tx.set_machine_ip(MachineId(Uuid::nil()), "10.0.0.1").await.unwrap());
    let moved = tx.machine(one.id).await.unwrap().unwrap();
    assert_eq!(moved.ip.as_deref(), Some("10.0.0.1"));
}

async fn the_newest_agent_of_a_host_counts(db: &Db) {
    let first = stored_agent(db, "machine").await;
    let machine = db.machine(first.machine_id).await.unwrap().unwrap();
    let second = agent(&machine);
    let mut tx = db.begin().await.unwrap();
    tx.insert_agent(&second).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db.agent(second.id).await.unwrap(), Some(second.clone()));
    assert_eq!(
        db.agent_of_machine(machine.id).await.unwrap(),
        Some(second.clone())
    );
    let mut tx = db.begin().await.unwrap();
    assert!(tx.set_agent_version(second.id, "0.2.0").await.unwrap());
    assert!(tx.renew_agent(second.id, Millis(99)).await.unwrap());
    assert_eq!((db.revoked_agents().await.unwrap(), db.revocations()), (0, 0));
    assert!(tx.revoke_agent(second.id, Millis(7)).await.unwrap());
    assert!(!tx.revoke_agent(second.id, Millis(8)).await.unwrap());
    assert!(!tx.set_agent_version(second.id, "0.3.0").await.unwrap());
    assert!(!tx.renew_agent(second.id, Millis(100)).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!((db.revoked_agents().await.unwrap(), db.revocations()), (1, 1));
    let revoked = Agent {
        version: "0.2.0".to_owned(),
        certificate_not_after: Millis(99),
        revoked_at: Some(Millis(7)),
        ..second.clone()
    };
    assert_eq!(db.agent(second.id).await.unwrap(), Some(revoked.clone()));
    assert_eq!(
        db.agent_of_machine(machine.id).await.unwrap(),
        Some(first.clone())
    );
    assert_eq!(
        db.list_agents(None, 9).await.unwrap(),
        [first.clone(), revoked.clone()]
    );
    assert_eq!(db.list_agents(Some(first.id), 9).await.unwrap(), [revoked]);
}

async fn agents_are_touched_together(db: &Db) {
    let (one, two) = (
        stored_agent(db, "touch-1").await,
        stored_agent(db, "touch-2").await,
    );
    let mut seen = vec![
        (one.id, Millis(5)),
        (two.id, Millis(6)),
        (one.id, Millis(4)),
    ];
    seen.extend((0..1_200).map(|_| (AgentId(Uuid::now_v7()), Millis(1))));
    let mut tx = db.begin().await.unwrap();
    tx.touch_agents(&seen).await.unwrap();
    tx.touch_agents(&[(two.id, Millis(3))]).await.unwrap();
    tx.touch_agents(&[]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        db.agent(one.id).await.unwrap().unwrap().last_seen_at,
        Some(Millis(5))
    );
    assert_eq!(
        db.agent(two.id).await.unwrap().unwrap().last_seen_at,
        Some(Millis(6))
    );
}

async fn a_token_is_used_once(db: &Db) {
    let machine = db.machine_by_name("one").await.unwrap().unwrap();
    let token = |hash: &str| EnrolmentToken {
        hash: hash.to_owned(),
        machine_id: machine.id,
        node_id: None,
        expires_at: Millis(100),
        used_at: None,
        revoked_at: None,
    };
    let mut tx = db.begin().await.unwrap();
    for hash in ["used", "expired"] {
        tx.insert_enrolment_token(&token(hash)).await.unwrap();
    }
    tx.commit().await.unwrap();
    let node = super::builders::stored_node(db, "tokens").await.id;
    let mut tx = db.begin().await.unwrap();
    for hash in ["of-node", "of-node-too"] {
        let of_node = EnrolmentToken { node_id: Some(node), ..token(hash) };
        tx.insert_enrolment_token(&of_node).await.unwrap();
    }
    assert!(tx.node_has_enrolment_token(node, machine.id).await.unwrap());
    let other = host_domain::ids::NodeId(Uuid::nil());
    assert!(!tx.node_has_enrolment_token(other, machine.id).await.unwrap());
    let elsewhere = db.machine_by_name("two").await.unwrap().unwrap().id;
    assert!(!tx.node_has_enrolment_token(node, elsewhere).await.unwrap());
    assert_eq!(tx.revoke_node_enrolment_tokens(node, Millis(3)).await.unwrap(), 2);
    assert_eq!(tx.revoke_node_enrolment_tokens(node, Millis(4)).await.unwrap(), 0);
    tx.commit().await.unwrap();
    let enrol = async |hash: &'static str, at| {
        let mut tx = db.begin().await.unwrap();
        let used = tx.use_enrolment_token(hash, Millis(at)).await.unwrap();
        tx.commit().await.unwrap();
        used
    };
    let (one, two) = tokio::join!(enrol("used", 5), enrol("used", 5));
    assert!(one != two, "used once: {one} {two}");
    assert!(!enrol("used", 6).await && !enrol("of-node", 5).await && !enrol("foreign", 5).await);
    assert!(!enrol("expired", 100).await && enrol("expired", 99).await);
    let used = db.enrolment_token("used").await.unwrap();
    assert_eq!(
        used,
        Some(EnrolmentToken {
            used_at: Some(Millis(5)),
            ..token("used")
        })
    );
    assert_eq!(db.enrolment_token("foreign").await.unwrap(), None);
}
