//! Transitions that were put aside, as administrators see them and put them back.

use reqwest::Method;

use super::bed::{Bed, problem};

/// Three transitions of the only node, as the outbox would have put them aside.
pub(super) const PUT_ASIDE: &str = r#"
    INSERT INTO dead_letters (id, node_id, event, attempts, error, failed_at, seq)
    SELECT '01920000-0000-7000-8000-00000000000' || n, id, json_object(
        'id', '01920000-0000-7000-8000-00000000000' || n, 'node_id', id, 'node_name', name,
        'chain_profile_id', chain_profile_id, 'node_type', node_type, 'dimension', 'state',
        'before', json('{"state": "syncing", "application_health": "unknown", "sync_status": "unknown"}'),
        'after', json('{"state": "down", "application_health": "unknown", "sync_status": "unknown"}'),
        'cause', 'beats_missed', 'reasons', json('[]'), 'state_version', 2, 'at', 1000), 10, 'it broke', 2000, 100 + n
    FROM nodes, (SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3);"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_what_was_put_aside_and_puts_it_back() {
    let bed = Bed::start().await;
    bed.node("alice").await;
    bed.sql("bellwether.db", PUT_ASIDE).await;
    let path = "/api/v1/admin/dead-letters";
    let page = bed.get(&format!("{path}?limit=2")).await;
    let letters = page["items"].as_array().unwrap();
    assert_eq!(letters.len(), 2, "{page:#}");
    let newest = &letters[0];
    assert_eq!(newest["id"], "01920000-0000-7000-8000-000000000003");
    assert_eq!(newest["node_name"], "alice");
    assert_eq!(
        (&newest["error"], &newest["attempts"]),
        (&"it broke".into(), &10.into())
    );
    assert_eq!(newest["at"], "1970-01-01T00:00:01Z");
    let next = page["next"].as_str().unwrap();
    let rest = bed.get(&format!("{path}?limit=2&cursor={next}")).await;
    assert_eq!(rest["items"].as_array().unwrap().len(), 1, "{rest:#}");

    let back = format!("{path}/{}/requeue", newest["id"].as_str().unwrap());
    for is_repeat in [false, true] {
        let request = bed.request(Method::POST, &back);
        let answer = request
            .header("idempotency-key", "k-1")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 204);
        assert_eq!(
            answer.headers().contains_key("idempotency-replayed"),
            is_repeat
        );
    }
    let left = bed.get(path).await;
    assert_eq!(left["items"].as_array().unwrap().len(), 2, "{left:#}");
    let unknown = format!("{path}/01920000-0000-7000-8000-000000000009/requeue");
    let answer = bed.request(Method::POST, &unknown).send().await.unwrap();
    problem(answer, 404, "not_found").await;
    let reader = bed
        .key("reader", &[host_server::ops::Scope::NodesRead])
        .await;
    let answer = bed.bare(Method::GET, path).bearer_auth(reader).send().await;
    problem(answer.unwrap(), 403, "missing_scope").await;
    bed.stop().await;
}
