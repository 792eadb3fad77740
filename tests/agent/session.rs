//! Enrolment, the session, and repeated messages.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use host_agent::AgentError;
use proto::v1 as pb;
use proto::v1::agent_message::Message as Out;
use proto::v1::command::Action;
use proto::v1::host_message::Message as In;
use tokio_util::sync::CancellationToken;

use super::bed::{Bed, became_agent, file};
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_enrols_beats_and_ends() {
    if became_agent().await {
        return;
    }
    let bed = Bed::without_agent().await;
    let shutdown = CancellationToken::new();
    let agent = tokio::spawn(host_agent::run(bed.config(), shutdown.clone()));
    let facts = bed.gateway.wait("hello", |message| match message {
        Out::Hello(hello) => hello.facts.clone(),
        _ => None,
    });
    let facts = facts.await;
    assert_eq!((facts.name.as_str(), facts.os.as_str()), ("test", "linux"));
    let load = bed.gateway.wait("a beat", |message| match message {
        Out::Beat(beat) => beat.load,
        _ => None,
    });
    assert!(load.await.memory_total_bytes > 0);
    assert!(
        matches!(bed.gateway.received()[0], Out::Hello(_)),
        "hello comes first"
    );
    shutdown.cancel();
    agent.await.unwrap().unwrap();

    let identity = bed.folder.path().join("state/identity.json");
    assert_eq!(
        identity.metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn a_foreign_token_is_refused() {
    let bed = Bed::without_agent().await;
    std::fs::write(bed.folder.path().join("token"), "stolen").unwrap();
    let refused = host_agent::run(bed.config(), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, AgentError::Refused(why) if why.contains("not known")),
        "{refused}"
    );
    assert!(!format!("{refused:?}").contains("stolen"));
}

#[tokio::test]
async fn a_gateway_of_another_authority_gets_no_token() {
    let bed = Bed::without_agent().await;
    let other = Bed::without_agent().await;
    let mut config = bed.config();
    config.gateway_url = other.gateway.url.clone();
    let run = host_agent::run(config, CancellationToken::new());
    assert!(
        tokio::time::timeout(Duration::from_secs(2), run)
            .await
            .is_err(),
        "it keeps trying"
    );
    assert!(!bed.folder.path().join("state/identity.json").exists());
    assert!(other.gateway.received().is_empty());
}

#[tokio::test]
async fn two_agents_never_work_on_one_folder() {
    let bed = Bed::new().await;
    bed.gateway
        .wait("hello", |m| matches!(m, Out::Hello(_)).then_some(()))
        .await;
    let second = host_agent::run(bed.config(), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(second, AgentError::Locked(_)), "{second}");
}

#[tokio::test]
async fn a_certificate_is_renewed_at_two_thirds_of_its_life() {
    let mut bed = Bed::without_agent().await;
    bed.gateway.set_life(Duration::from_secs(2));
    bed.start_agent();
    until("a session with a second certificate", || {
        match bed.gateway.n_peers() {
            n if n > 1 => Ok(()),
            n => Err(n),
        }
    })
    .await;
}

#[tokio::test]
async fn a_result_is_sent_until_it_is_stored_and_a_command_runs_once() {
    let bed = Bed::new().await;
    bed.prepare().await;
    bed.gateway.set_deaf(true);
    let command = bed.install(vec![file("a", "1")]);
    let first = bed.gateway.run(command.clone()).await;
    bed.gateway.forget();
    let n_sessions = bed.gateway.n_sessions();
    bed.gateway.hang_up();
    let again = bed.gateway.result(&command.id).await;
    assert_eq!(again, first);
    assert!(bed.gateway.n_sessions() > n_sessions);

    // A second delivery returns the result and runs nothing.
    std::fs::remove_file(bed.root().join("a")).unwrap();
    bed.gateway.set_deaf(false);
    bed.gateway.forget();
    assert_eq!(bed.gateway.run(command.clone()).await, first);
    assert!(!bed.root().join("a").exists());

    bed.gateway.hang_up();
    let open = bed
        .gateway
        .wait("hello without open commands", |message| match message {
            Out::Hello(hello) => hello.running_command_ids.is_empty().then_some(()),
            _ => None,
        });
    open.await;
}

#[tokio::test]
async fn a_command_with_ids_that_are_none_does_no_harm() {
    let bed = Bed::new().await;
    let id = "../../escape".to_owned();
    let node_id = "../..".to_owned();
    let action = Some(Action::Uninstall(pb::Uninstall {}));
    bed.gateway
        .send(In::Command(pb::Command {
            id,
            node_id,
            deadline_ms: 0,
            action,
        }))
        .await;
    bed.prepare().await;
    assert!(bed.folder.path().join("ca.pem").exists());
}

#[tokio::test]
async fn a_collector_that_breaks_is_left_alone() {
    let bed = Bed::new().await;
    let bytes = crate::plugins::support::guest("hostile");
    let digest = host_runtime::Digest::of(&bytes).to_string();
    bed.gateway.offer_component(&digest, bytes);
    let collector = |act: &str| pb::CollectorAssignment {
        name: act.to_owned(),
        plugin: act.to_owned(),
        component_digest: digest.clone(),
        config_json: format!(r#"{{"act":"{act}"}}"#),
        every_ms: 50,
        grants: Some(pb::Grants {
            http: vec![pb::HttpGrant {
                target: "node:rpc".to_owned(),
                addresses: Vec::new(),
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    let node = pb::NodeAssignment {
        node_id: bed.node.clone(),
        ports: [("rpc".to_owned(), 1)].into(),
        collectors: vec![collector("trap"), collector("behave")],
        ..Default::default()
    };
    let assignments = pb::Assignments {
        generation: 1,
        nodes: vec![node],
    };
    bed.gateway.send(In::Assignments(assignments)).await;

    // Both have the same interval, but the agent calls the good one far more often.
    let collections = |of: &str| -> Vec<pb::Collection> {
        let received = bed.gateway.received().into_iter();
        let batches = received.filter_map(|message| match message {
            Out::Observations(batch) => Some(batch.collections),
            _ => None,
        });
        batches
            .flatten()
            .filter(|collection| collection.collector == of)
            .collect()
    };
    let failures_max = usize::try_from(host_domain::breaker::FAILURES_MAX).unwrap();
    until("many collections", || {
        let (bad, good) = (collections("trap"), collections("behave"));
        let enough = bad.len() >= failures_max && good.len() >= 6 * failures_max;
        enough.then_some(()).ok_or((bad.len(), good.len()))
    })
    .await;
    let broke = collections("trap");
    assert_eq!(broke.len(), failures_max, "{broke:#?}");
    let (last, before) = broke.split_last().unwrap();
    assert!(last.plugin_fault && last.paused, "{last:?}");
    assert!(before.iter().all(|one| one.plugin_fault && !one.paused));
}

#[tokio::test]
async fn a_component_that_is_not_one_is_reported_and_its_collector_says_so() {
    let bed = Bed::new().await;
    let bytes = b"not a component".to_vec();
    let digest = host_runtime::Digest::of(&bytes).to_string();
    bed.gateway.offer_component(&digest, bytes);
    let collector = pb::CollectorAssignment {
        name: "evm".to_owned(),
        plugin: "evm".to_owned(),
        component_digest: digest.clone(),
        every_ms: 50,
        ..Default::default()
    };
    let node = pb::NodeAssignment {
        node_id: bed.node.clone(),
        collectors: vec![collector],
        ..Default::default()
    };
    let assignments = pb::Assignments {
        generation: 1,
        nodes: vec![node],
    };
    bed.gateway.send(In::Assignments(assignments)).await;
    let report = bed.gateway.wait("a report", |message| match message {
        Out::Component(report) => Some(report.clone()),
        _ => None,
    });
    let report = report.await;
    assert!(
        !report.ready && report.digest == digest && report.error.contains("component"),
        "{report:?}"
    );
    let collection = bed.gateway.wait("a collection", |message| match message {
        Out::Observations(batch) => batch.collections.first().cloned(),
        _ => None,
    });
    let collection = collection.await;
    assert!(
        collection.plugin_fault && !collection.error.is_empty(),
        "{collection:?}"
    );
    assert_eq!(
        (collection.node_id, collection.collector.as_str()),
        (bed.node.clone(), "evm")
    );
}
