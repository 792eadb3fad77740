//! Who may join, and who may call.

use std::time::Duration;

use host_domain::agent::EnrolmentToken;
use host_domain::ids::AgentId;
use host_domain::time::Clock;
use host_gateway::{CertificateAuthority, Order};
use host_store::AuditFilter;
use proto::v1;
use proto::v1::agent_gateway_client::AgentGatewayClient;
use tonic::{Code, Status};
use uuid::Uuid;

use super::bed::{Bed, token_hash};
use crate::support::fake_agent::channel;

#[tokio::test]
async fn an_agent_enrols_with_its_token_and_may_connect() {
    let bed = Bed::start().await;
    let host = bed.host("one").await;
    let agent = bed.enrol(&bed.token(host).await).await.unwrap();
    let row = bed.db.agent(agent.id).await.unwrap().unwrap();
    assert_eq!(
        (row.machine_id, row.name.as_str(), row.revoked_at),
        (host, "fake", None)
    );
    assert_eq!(
        row.certificate_not_after.since(bed.clock.now()).as_secs() / 86_400,
        29
    );
    agent.connect().await.unwrap();
    let row = bed.db.agent(agent.id).await.unwrap().unwrap();
    assert_eq!(row.version, "9.9.9");
    let acts = bed
        .db
        .list_audit(&AuditFilter::default(), None, 10)
        .await
        .unwrap();
    assert_eq!(acts[0].action, "enrol_agent");
}

#[tokio::test]
async fn a_used_foreign_expired_or_revoked_token_is_refused() {
    let bed = Bed::start().await;
    let host = bed.host("one").await;

    let used = bed.token(host).await;
    bed.enrol(&used).await.unwrap();
    check_refused(&bed.enrol(&used).await.err().unwrap(), "was used before");
    check_refused(
        &bed.enrol("nobody issued this").await.err().unwrap(),
        "does not know the enrolment token",
    );
    check_refused(
        &bed.enrol(&"x".repeat(10_000)).await.err().unwrap(),
        "does not know the enrolment token",
    );

    let node = bed.node(host).await;
    let revoked = bed.token_for(host, Some(node)).await;
    let mut tx = bed.db.begin().await.unwrap();
    let n_revoked = tx.revoke_node_enrolment_tokens(node, bed.clock.now());
    assert_eq!(n_revoked.await.unwrap(), 1);
    tx.commit().await.unwrap();
    check_refused(&bed.enrol(&revoked).await.err().unwrap(), "was revoked");

    let expired = bed.token(host).await;
    bed.clock.advance(Duration::from_mins(15));
    check_refused(&bed.enrol(&expired).await.err().unwrap(), "has expired");
}

fn check_refused(status: &Status, why: &str) {
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert!(status.message().contains(why), "{status}");
    assert!(status.message().contains("request a new one"), "{status}");
}

#[tokio::test]
async fn a_token_lets_one_of_two_in_who_come_at_once() {
    let bed = Bed::start().await;
    let token = bed.token(bed.host("one").await).await;
    let (first, second) = tokio::join!(bed.enrol(&token), bed.enrol(&token));
    assert!(first.is_ok() != second.is_ok());
    assert_eq!(bed.db.list_agents(None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_that_can_not_be_signed_does_not_cost_the_token() {
    let bed = Bed::start().await;
    let token = bed.token(bed.host("one").await).await;
    let mut client = AgentGatewayClient::new(channel(
        bed.gateway.local_addr(),
        bed.authority.certificate_pem(),
        None,
    ));
    let request = v1::EnrollRequest {
        token: token.clone(),
        csr_der: vec![1, 2, 3],
        facts: None,
    };
    let status = client.enroll(request).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    bed.enrol(&token).await.unwrap();
}

#[tokio::test]
async fn without_a_certificate_only_enrolment_is_served() {
    let bed = Bed::start().await;
    let anonymous = channel(
        bed.gateway.local_addr(),
        bed.authority.certificate_pem(),
        None,
    );
    let mut client = AgentGatewayClient::new(anonymous);
    let refusals = [
        client.connect(tokio_stream::empty()).await.err(),
        client.renew(v1::RenewRequest::default()).await.err(),
        client
            .heartbeat(v1::HeartbeatRequest::default())
            .await
            .err(),
        client
            .fetch_component(v1::FetchComponentRequest::default())
            .await
            .err(),
    ];
    for refusal in refusals {
        assert_eq!(refusal.unwrap().code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let bed = Bed::start().await;
    let (mut agent, _) = bed.agent("one").await;
    let foreign =
        CertificateAuthority::open(&bed.folder.path().join("foreign"), &bed.clock).unwrap();
    let forged = foreign
        .sign_agent(&agent.csr(), agent.id, bed.clock.now())
        .unwrap();
    agent.show(&forged.der);
    assert!(agent.connect().await.is_err());
    assert!(
        agent
            .client()
            .heartbeat(v1::HeartbeatRequest::default())
            .await
            .is_err()
    );
    assert!(!bed.sessions.is_connected(agent.id));
}

#[tokio::test]
async fn a_certificate_of_nobody_or_of_the_past_is_refused() {
    let bed = Bed::start().await;
    let (mut agent, _) = bed.agent("one").await;
    let nobody = AgentId(Uuid::now_v7());
    let issued = bed
        .authority
        .sign_agent(&agent.csr(), nobody, bed.clock.now())
        .unwrap();
    let known = agent.client();
    agent.show(&issued.der);
    let status = agent.connect().await.err().unwrap();
    assert!(
        status.message().contains("does not know the agent"),
        "{status}"
    );

    bed.clock.advance(Duration::from_hours(744));
    let status = known
        .clone()
        .heartbeat(v1::HeartbeatRequest::default())
        .await
        .err()
        .unwrap();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("has expired"), "{status}");
}

#[tokio::test]
async fn a_renewed_certificate_is_good_for_longer() {
    let bed = Bed::start().await;
    let (mut agent, _) = bed.agent("one").await;
    let first = bed.db.agent(agent.id).await.unwrap().unwrap();
    // Not so far that TLS, which reads the machine's clock, would take the new one for one of the future.
    bed.clock.advance(Duration::from_mins(5));
    let request = v1::RenewRequest {
        csr_der: agent.csr(),
    };
    let answer = agent.client().renew(request).await.unwrap().into_inner();
    let renewed = bed.db.agent(agent.id).await.unwrap().unwrap();
    assert_eq!(renewed.certificate_not_after.0, answer.not_after_ms);
    let longer = renewed
        .certificate_not_after
        .since(first.certificate_not_after);
    assert_eq!(longer.as_secs(), 300);
    agent.show(&answer.certificate_der);
    agent.connect().await.unwrap();
    assert_eq!(
        bed.db
            .list_audit(&AuditFilter::default(), None, 1)
            .await
            .unwrap()[0]
            .action,
        "renew_agent"
    );
}

#[tokio::test]
async fn a_host_that_enrols_again_has_the_new_agent_only() {
    let bed = Bed::start().await;
    let host = bed.host("one").await;
    let older = bed.enrol(&bed.token(host).await).await.unwrap();
    let node = bed.node(host).await;
    let session = older.connect().await.unwrap();
    let waiting = bed.queue(older.id, node, Order::Start).await;

    let newer = bed.enrol(&bed.token(host).await).await.unwrap();
    assert_ne!(older.id, newer.id);
    assert_eq!(session.end().await.code(), Code::Unauthenticated);
    assert_eq!(
        older.connect().await.err().unwrap().code(),
        Code::Unauthenticated
    );
    assert_eq!(newer.connect().await.unwrap().hear_command().await, waiting);
    assert_eq!(
        bed.db.agent_of_machine(host).await.unwrap().unwrap().id,
        newer.id
    );
}

#[tokio::test]
async fn a_token_is_bound_to_its_host() {
    let bed = Bed::start().await;
    let (one, two) = (bed.host("one").await, bed.host("two").await);
    let token = "kept apart".to_owned();
    let mut tx = bed.db.begin().await.unwrap();
    tx.insert_enrolment_token(&EnrolmentToken {
        hash: token_hash(&token),
        machine_id: two,
        node_id: None,
        expires_at: bed.clock.now().plus(Duration::from_secs(1)),
        used_at: None,
        revoked_at: None,
    })
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let agent = bed.enrol(&token).await.unwrap();
    assert_eq!(bed.db.agent_of_machine(one).await.unwrap(), None);
    assert_eq!(
        bed.db.agent_of_machine(two).await.unwrap().unwrap().id,
        agent.id
    );
}
