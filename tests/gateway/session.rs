//! Sessions: beats, whose they are, and how they end.

use std::time::Duration;

use host_domain::command::CommandState;
use host_domain::config::recipe::Retry;
use host_domain::config::step::{RenderedAction, RenderedStep};
use host_domain::time::Clock;
use host_gateway::{AgentAssignments, NodeAssignment, Order};
use host_store::{Db, DbOptions};
use proto::v1;
use proto::v1::agent_message::Message as Say;
use tonic::Code;

use super::bed::{Bed, until};
use crate::support::fake_agent::beat;

#[tokio::test]
async fn beats_are_counted_with_the_hosts_time_and_the_nodes_processes() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let session = agent.connect().await.unwrap();
    for expected in [1, 2] {
        session.beat(&[node]).await;
        until("the beat", async || bed.beats(node).await == expected).await;
    }
    let heartbeat = bed.db.heartbeat(node).await.unwrap().unwrap();
    assert_eq!(heartbeat.last_heartbeat, bed.clock.now());
    assert!(heartbeat.processes_run);
    assert!(heartbeat.processes_json.contains(r#""state":"running""#));
    until("the agent to be seen", async || {
        let row = bed.db.agent(agent.id).await.unwrap().unwrap();
        row.last_seen_at == Some(bed.clock.now())
    })
    .await;
}

#[tokio::test]
async fn an_agent_speaks_for_the_nodes_of_its_own_host_only() {
    let bed = Bed::start().await;
    let (agent, own) = bed.agent("one").await;
    let (_other, foreign) = bed.agent("two").await;
    let mut session = agent.connect().await.unwrap();
    session.beat(&[foreign, own]).await;
    until("the own node's beat", async || bed.beats(own).await == 1).await;
    assert_eq!(bed.beats(foreign).await, 0);

    let collection = |node: &str| v1::Collection {
        node_id: node.to_owned(),
        collector: "evm".to_owned(),
        at_ms: bed.clock.now().0,
        observations: vec![v1::Observation {
            name: "node.height".to_owned(),
            value: Some(v1::observation::Value::Integer(7)),
        }],
        error: "and an error".to_owned(),
        plugin_fault: true,
        paused: false,
    };
    let collections = vec![collection(&foreign.to_string()), collection("not an id")];
    session
        .say(Say::Observations(v1::ObservationBatch {
            sequence: 4,
            collections,
        }))
        .await;
    assert_eq!(session.hear_stored().await, 4);
    assert!(
        bed.db
            .latest_observations(&[foreign])
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        !bed.events
            .lines()
            .iter()
            .any(|line| line.starts_with("collector"))
    );
}

#[tokio::test]
async fn a_revoked_agent_is_cut_off_at_its_next_beat() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let session = agent.connect().await.unwrap();
    session.beat(&[node]).await;
    until("the first beat", async || bed.beats(node).await == 1).await;

    let mut tx = bed.db.begin().await.unwrap();
    assert!(tx.revoke_agent(agent.id, bed.clock.now()).await.unwrap());
    tx.commit().await.unwrap();
    session.beat(&[node]).await;
    let status = session.end().await;
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert!(status.message().contains("was revoked"), "{status}");
    assert_eq!(
        agent.connect().await.err().unwrap().code(),
        Code::Unauthenticated
    );
    until("the seat to be free", async || {
        !bed.sessions.is_connected(agent.id)
    })
    .await;
    assert_eq!(bed.beats(node).await, 1);
}

#[tokio::test]
async fn an_agent_that_another_process_revoked_is_cut_off_too() {
    let bed = Bed::start_with(|config| config.beat_interval = Duration::from_millis(100)).await;
    let (agent, node) = bed.agent("one").await;
    let session = agent.connect().await.unwrap();
    let url = format!("sqlite://{}", bed.folder.path().join("test.db").display());
    let other_process = Db::open(&url, &DbOptions::default()).await.unwrap();
    let mut tx = other_process.begin().await.unwrap();
    assert!(tx.revoke_agent(agent.id, bed.clock.now()).await.unwrap());
    tx.commit().await.unwrap();
    until("the session to end", async || {
        session.beat(&[node]).await;
        !bed.sessions.is_connected(agent.id)
    })
    .await;
    let status = session.end().await;
    assert!(status.message().contains("was revoked"), "{status}");
}

#[tokio::test]
async fn a_beat_asks_the_database_nothing() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let mut session = agent.connect().await.unwrap();
    session.hear_assignments().await;
    session.beat(&[node]).await;
    until("the first beat", async || bed.beats(node).await == 1).await;

    bed.db.close().await;
    session.beat(&[node]).await;
    session.say(Say::Hello(v1::Hello::default())).await;
    let status = session.end().await;
    assert_eq!(
        status.code(),
        Code::InvalidArgument,
        "the beat needed a database that is away: {status}"
    );
}

#[tokio::test]
async fn a_session_ends_when_the_certificate_does() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let session = agent.connect().await.unwrap();
    bed.clock.advance(Duration::from_hours(744));
    session.beat(&[node]).await;
    let status = session.end().await;
    assert!(status.message().contains("has expired"), "{status}");
}

#[tokio::test]
async fn a_second_session_replaces_the_first() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let first = agent.connect().await.unwrap();
    let second = agent.connect().await.unwrap();
    assert_eq!(first.end().await.code(), Code::Aborted);
    second.beat(&[node]).await;
    until("the second session's beat", async || {
        bed.beats(node).await == 1
    })
    .await;
    drop(second);
    let gone = format!("disconnected {}", agent.id);
    until("the end of the second", async || {
        bed.events.lines().contains(&gone)
    })
    .await;
    let told = bed.events.lines();
    assert_eq!(
        told.iter().filter(|line| **line == gone).count(),
        1,
        "{told:?}"
    );
}

#[tokio::test]
async fn a_gateway_says_whether_agents_can_connect() {
    let bed = Bed::start().await;
    assert!(bed.sessions.is_served());
    bed.shutdown.cancel();
    until("the gateway's end", async || !bed.sessions.is_served()).await;
}

#[tokio::test]
async fn the_hosts_end_ends_sessions_and_every_task() {
    let bed = Bed::start().await;
    let (agent, _) = bed.agent("one").await;
    let session = agent.connect().await.unwrap();
    bed.shutdown.cancel();
    assert_eq!(session.end().await.code(), Code::Unavailable);
    bed.tasks.close();
    tokio::time::timeout(Duration::from_secs(10), bed.tasks.wait())
        .await
        .unwrap();
    assert!(agent.connect().await.is_err());
}

#[tokio::test]
async fn a_session_begins_with_a_hello() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let message = v1::AgentMessage {
        message: Some(Say::Beat(beat(&[node]))),
    };
    let messages = tokio_stream::once(message);
    let mut answers = agent.client().connect(messages).await.unwrap().into_inner();
    assert_eq!(
        answers.message().await.err().unwrap().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn there_are_as_many_sessions_as_the_configuration_says() {
    let bed = Bed::start_with(|config| config.sessions_max = 1).await;
    let (one, _) = bed.agent("one").await;
    let (two, _) = bed.agent("two").await;
    let _session = one.connect().await.unwrap();
    assert_eq!(
        two.connect().await.err().unwrap().code(),
        Code::ResourceExhausted
    );
}

#[tokio::test]
async fn assignments_come_with_the_session_and_with_every_push() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let mut session = agent.connect().await.unwrap();
    assert_eq!(session.hear_assignments().await.generation, 0);
    let of_node = NodeAssignment {
        node_id: node,
        chain: "chain-a".to_owned(),
        node_type: "full".to_owned(),
        ports: [("rpc".to_owned(), 8545)].into(),
        collectors: Vec::new(),
    };
    bed.source.set(AgentAssignments {
        generation: 5,
        nodes: vec![of_node],
    });
    bed.sessions.push_assignments(5);
    let pushed = session.hear_assignments().await;
    assert_eq!((pushed.generation, pushed.nodes[0].ports["rpc"]), (5, 8545));
}

#[tokio::test]
async fn an_agent_that_does_not_read_fills_a_bounded_queue_and_is_dropped() {
    const COMMANDS: usize = 150;
    let bed = Bed::start_with(|config| config.send_timeout = Duration::from_secs(2)).await;
    let (agent, node) = bed.agent("one").await;
    let mut ids = Vec::new();
    for _ in 0..COMMANDS {
        ids.push(bed.queue(agent.id, node, large_order()).await);
    }
    let session = agent.connect().await.unwrap();
    let gone = format!("disconnected {}", agent.id);
    until("the end of the session", async || {
        bed.events.lines().contains(&gone)
    })
    .await;
    let mut n_sent = 0;
    for id in &ids {
        n_sent += usize::from(bed.command(*id).await.state == CommandState::Delivered);
    }
    assert!(
        (1..COMMANDS).contains(&n_sent),
        "{n_sent} of {COMMANDS} were sent"
    );
    drop(session);
    // Nothing is lost by it: the next session brings every one.
    let mut next = agent.connect().await.unwrap();
    for id in &ids {
        assert_eq!(next.hear_command().await, *id);
    }
}

fn large_order() -> Order {
    let action = RenderedAction::File {
        path: "config/large".to_owned(),
        // Random, so that compression does not make it small.
        content: (0..4_000)
            .map(|_| uuid::Uuid::new_v4().to_string())
            .collect(),
        mode: 0o640,
    };
    let step = RenderedStep {
        name: "large".to_owned(),
        creates: None,
        timeout: Duration::from_secs(5),
        retry: Retry::default(),
        action,
    };
    Order::Install { steps: vec![step] }
}
