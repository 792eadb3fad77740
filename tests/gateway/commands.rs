//! Commands: there at once, there again, and over once.

use std::time::Duration;

use host_domain::command::CommandState;
use host_gateway::Order;
use proto::v1;
use proto::v1::agent_message::Message as Say;
use proto::v1::command_result::Outcome;
use tonic::Code;

use super::bed::{Bed, until};
use crate::support::fake_agent::beat;

#[tokio::test]
async fn a_command_is_delivered_the_moment_it_is_queued() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let mut session = agent.connect().await.unwrap();
    // The first look finds nothing; only the wake can bring the next one in this time.
    session.hear_assignments().await;
    for _ in 0..2 {
        let id = bed.queue(agent.id, node, Order::Start).await;
        let heard = tokio::time::timeout(Duration::from_secs(5), session.hear_command());
        assert_eq!(heard.await.unwrap(), id);
        bed.wait_for_state(id, CommandState::Delivered).await;
    }
}

#[tokio::test]
async fn a_command_comes_again_until_it_is_accepted() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let first = bed.queue(agent.id, node, Order::Start).await;
    let second = bed.queue(agent.id, node, Order::Stop).await;
    for _ in 0..2 {
        let mut session = agent.connect().await.unwrap();
        assert_eq!(session.hear_command().await, first);
        assert_eq!(session.hear_command().await, second);
    }
    let mut session = agent.connect().await.unwrap();
    assert_eq!(session.hear_command().await, first);
    session.accept(first).await;
    bed.wait_for_state(first, CommandState::Accepted).await;
    let mut session = agent.connect().await.unwrap();
    assert_eq!(session.hear_command().await, second);
}

#[tokio::test]
async fn a_result_is_stored_once_though_it_is_sent_twice() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let id = bed.queue(agent.id, node, Order::Start).await;
    let mut session = agent.connect().await.unwrap();
    assert_eq!(session.hear_command().await, id);
    session.accept(id).await;
    session.succeed(id).await;
    assert_eq!(session.hear_result_stored().await, id);
    let stored = bed.command(id).await;
    assert_eq!(stored.state, CommandState::Succeeded);

    bed.clock.advance(Duration::from_secs(5));
    session.result(id, Outcome::Failed).await;
    assert_eq!(session.hear_result_stored().await, id);
    assert_eq!(bed.command(id).await, stored);
    // Told twice, because the host can't know whether the first telling was heard; both times what is stored.
    let told = format!("finished {id} succeeded");
    assert_eq!(
        bed.events
            .lines()
            .iter()
            .filter(|line| **line == told)
            .count(),
        2
    );
}

#[tokio::test]
async fn a_result_carries_what_prepare_found() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let id = bed.queue(agent.id, node, Order::Start).await;
    let mut session = agent.connect().await.unwrap();
    let prepared = v1::Prepared {
        root: "/nodes/one".to_owned(),
        ports: [("rpc".to_owned(), 18_545)].into(),
    };
    let result = v1::CommandResult {
        command_id: id.to_string(),
        outcome: Outcome::Succeeded.into(),
        prepared: Some(prepared),
        ..v1::CommandResult::default()
    };
    assert_eq!(session.hear_command().await, id);
    session.say(Say::Result(result)).await;
    assert_eq!(session.hear_result_stored().await, id);
    let outcome = bed.command(id).await.result.unwrap();
    assert_eq!(outcome.root.as_deref(), Some("/nodes/one"));
    assert_eq!(outcome.ports["rpc"], 18_545);
}

#[tokio::test]
async fn an_agent_can_not_finish_the_command_of_another() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let (other, _) = bed.agent("two").await;
    let id = bed.queue(agent.id, node, Order::Start).await;
    let mut session = other.connect().await.unwrap();
    session.accept(id).await;
    session.succeed(id).await;
    // Acknowledged, because saying it again would help nobody.
    assert_eq!(session.hear_result_stored().await, id);
    assert_eq!(bed.command(id).await.state, CommandState::Queued);
    assert!(
        !bed.events
            .lines()
            .iter()
            .any(|line| line.starts_with("finished"))
    );
}

#[tokio::test]
async fn progress_is_told() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let id = bed.queue(agent.id, node, Order::Start).await;
    let session = agent.connect().await.unwrap();
    let progress = v1::CommandProgress {
        command_id: id.to_string(),
        step: "download".to_owned(),
        step_index: 1,
        step_count: 3,
        fraction: Some(7.5),
        message: String::new(),
    };
    session.say(Say::Progress(progress)).await;
    let expected = format!("progress {id} download Some(1.0)");
    until("the progress", async || {
        bed.events.lines().contains(&expected)
    })
    .await;
}

#[tokio::test]
async fn a_simple_client_beats_and_takes_its_commands_by_one_call() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let id = bed.queue(agent.id, node, Order::Start).await;
    let request = v1::HeartbeatRequest {
        beat: Some(beat(&[node])),
    };
    let answer = agent
        .client()
        .heartbeat(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.commands[0].id, id.to_string());
    assert_eq!(bed.command(id).await.state, CommandState::Delivered);
    until("the beat", async || bed.beats(node).await == 1).await;
}

#[tokio::test]
async fn a_result_without_an_outcome_ends_the_session() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let id = bed.queue(agent.id, node, Order::Start).await;
    let session = agent.connect().await.unwrap();
    session.result(id, Outcome::Unspecified).await;
    assert_eq!(session.end().await.code(), Code::InvalidArgument);
    assert_eq!(bed.command(id).await.result, None);
}
