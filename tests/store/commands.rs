//! Commands: queued once, in order, forwards only, finished once.

use std::collections::BTreeMap;

use host_domain::agent::Agent;
use host_domain::command::{Command, CommandKind, CommandOutcome, CommandState};
use host_domain::ids::CommandId;
use host_domain::node::Node;
use host_domain::time::Millis;
use host_store::Db;
use uuid::Uuid;

use super::builders::{stored_agent, stored_node};
use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    let (node, agent) = (
        stored_node(db, "node").await,
        stored_agent(db, "host").await,
    );
    let commands = queueing_twice_makes_one(db, &node, &agent).await;
    states_go_forwards_only(db, &commands[0]).await;
    lists_go_on(db, &node, &agent, &commands).await;
    only_what_no_agent_has_is_taken_back(db, &node, &agent).await;
    a_successor_takes_over_what_is_not_over(db, &agent, &commands).await;
}

fn command(node: &Node, agent: &Agent, number: u32) -> Command {
    Command {
        // Ids say nothing of the order: they are made from the workflow's id and step.
        id: CommandId(Uuid::from_u128(u128::from(u32::MAX - number))),
        node_id: node.id,
        agent_id: agent.id,
        kind: CommandKind::Install,
        payload: vec![0, 159, 146, 150],
        state: CommandState::Queued,
        result: None,
        workflow_id: Some("provision-1".to_owned()),
        mailbox: Some("install".to_owned()),
        deadline: Millis(100 + i64::from(number)),
        created_at: Millis(1),
        updated_at: Millis(1),
    }
}

async fn insert(db: &Db, command: &Command) -> bool {
    let mut tx = db.begin().await.unwrap();
    let inserted = tx.insert_command(command).await.unwrap();
    tx.commit().await.unwrap();
    inserted
}

async fn queueing_twice_makes_one(db: &Db, node: &Node, agent: &Agent) -> Vec<Command> {
    let commands: Vec<_> = (0..4).map(|number| command(node, agent, number)).collect();
    for command in &commands {
        assert!(insert(db, command).await);
    }
    let changed = Command {
        kind: CommandKind::Stop,
        ..commands[0].clone()
    };
    assert!(!insert(db, &changed).await);
    assert_eq!(
        db.command(commands[0].id).await.unwrap(),
        Some(commands[0].clone())
    );
    assert_eq!(db.command(CommandId(Uuid::nil())).await.unwrap(), None);
    assert_eq!(db.pending_commands(agent.id, 9).await.unwrap(), commands);
    assert_eq!(
        db.pending_commands(agent.id, 2).await.unwrap(),
        commands[..2]
    );
    assert_eq!(db.n_unfinished_commands(node.id).await.unwrap(), 4);
    commands
}

async fn states_go_forwards_only(db: &Db, command: &Command) {
    let mut tx = db.begin().await.unwrap();
    assert!(
        tx.mark_command_delivered(command.id, Millis(2))
            .await
            .unwrap()
    );
    assert!(
        !tx.mark_command_delivered(command.id, Millis(3))
            .await
            .unwrap()
    );
    assert!(
        tx.mark_command_accepted(command.id, Millis(4))
            .await
            .unwrap()
    );
    assert!(
        !tx.mark_command_accepted(command.id, Millis(5))
            .await
            .unwrap()
    );
    assert!(
        !tx.mark_command_delivered(command.id, Millis(6))
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
    let accepted = db.command(command.id).await.unwrap().unwrap();
    assert_eq!(
        (accepted.state, accepted.updated_at),
        (CommandState::Accepted, Millis(4))
    );

    let outcome = CommandOutcome {
        step: "package".to_owned(),
        error: "no such version".to_owned(),
        output: "E: \0\u{1b}[31m".to_owned(),
        root: Some("/var/lib".to_owned()),
        ports: BTreeMap::from([("rpc".to_owned(), 8545)]),
    };
    let finish = async |state| {
        let mut tx = db.begin().await.unwrap();
        let finished = tx
            .finish_command(command.id, state, &outcome, Millis(9))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        finished
    };
    let (one, two) = tokio::join!(finish(CommandState::Failed), finish(CommandState::Failed));
    assert!(one != two, "finished once: {one} {two}");
    assert!(!finish(CommandState::Succeeded).await);
    let over = db.command(command.id).await.unwrap().unwrap();
    assert_eq!(
        (over.state, over.updated_at, over.result),
        (CommandState::Failed, Millis(9), Some(outcome.clone()))
    );
    let mut tx = db.begin().await.unwrap();
    assert!(
        !tx.mark_command_accepted(command.id, Millis(10))
            .await
            .unwrap()
    );
}

async fn lists_go_on(db: &Db, node: &Node, agent: &Agent, commands: &[Command]) {
    assert_eq!(
        db.pending_commands(agent.id, 9).await.unwrap(),
        commands[1..]
    );
    assert_eq!(db.n_unfinished_commands(node.id).await.unwrap(), 3);
    let ids = |found: Vec<Command>| {
        found
            .into_iter()
            .map(|command| command.id)
            .collect::<Vec<_>>()
    };
    let newest = ids(db.list_commands(node.id, None, 2).await.unwrap());
    assert_eq!(newest, [commands[3].id, commands[2].id]);
    let rest = ids(db.list_commands(node.id, Some(newest[1]), 9).await.unwrap());
    assert_eq!(rest, [commands[1].id, commands[0].id]);
}

async fn only_what_no_agent_has_is_taken_back(db: &Db, node: &Node, agent: &Agent) {
    let queued = command(node, agent, 900);
    assert!(insert(db, &queued).await);
    let mut tx = db.begin().await.unwrap();
    assert!(tx.withdraw_command(queued.id).await.unwrap());
    assert!(!tx.withdraw_command(queued.id).await.unwrap());
    tx.commit().await.unwrap();
    assert!(insert(db, &queued).await);
    let mut tx = db.begin().await.unwrap();
    tx.mark_command_delivered(queued.id, Millis(1)).await.unwrap();
    assert!(!tx.withdraw_command(queued.id).await.unwrap());
    tx.rollback().await.unwrap();
    let mut tx = db.begin().await.unwrap();
    assert!(tx.withdraw_command(queued.id).await.unwrap());
    tx.commit().await.unwrap();
}

async fn a_successor_takes_over_what_is_not_over(db: &Db, old: &Agent, commands: &[Command]) {
    let new = stored_agent(db, "successor").await;
    let mut tx = db.begin().await.unwrap();
    tx.mark_command_accepted(commands[1].id, Millis(20))
        .await
        .unwrap();
    let n_moved = tx
        .hand_over_commands(old.id, new.id, Millis(30))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(n_moved, 3);
    let expected: Vec<_> = commands[1..]
        .iter()
        .map(|command| Command {
            agent_id: new.id,
            updated_at: Millis(30),
            ..command.clone()
        })
        .collect();
    assert_eq!(db.pending_commands(new.id, 9).await.unwrap(), expected);
    assert_eq!(db.pending_commands(old.id, 9).await.unwrap(), []);
    let over = db.command(commands[0].id).await.unwrap().unwrap();
    assert_eq!(over.agent_id, old.id);
}
