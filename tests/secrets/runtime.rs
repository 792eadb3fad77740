//! What a guest with a secret sees and can reach.

use std::collections::BTreeMap;
use std::sync::Arc;

use host_domain::observation::Scalar;
use host_domain::plugin::PluginKind;
use host_runtime::{CallError, NodeContext, Plugin, SecretSource, Services};
use serde_json::{Value, json};

use super::canary::canary;
use crate::plugins::support::{guest, host_with, http_grant, node, services, spec};
use crate::support::echo::Echo;

async fn keeper(act: Value, target: &str, secret: &str) -> Plugin {
    let secrets = BTreeMap::from([("token".to_owned(), secret.to_owned().into())]);
    let host = host_with(Services {
        secrets: Arc::new(secrets) as Arc<dyn SecretSource>,
        ..services()
    });
    let mut spec = spec(PluginKind::Collector, act);
    spec.grants.http = vec![http_grant(target, &[])];
    spec.grants.secrets = vec!["token".to_owned()];
    spec.grants.kv = true;
    host.load(guest("keeper"), spec).await.unwrap()
}

async fn collect(plugin: &Plugin) -> Result<BTreeMap<String, Scalar>, CallError> {
    let measured = plugin.collect(node(), NodeContext::default()).await?;
    Ok(measured
        .into_iter()
        .map(|one| (one.name, one.value))
        .collect())
}

#[tokio::test]
async fn a_guest_sees_its_secret_in_no_part_of_an_answer_and_no_redirect_carries_it() {
    let echo = Echo::listen().await;
    let secret = canary();
    for (path, status) in [("/", "200"), ("/moved", "302")] {
        for form in ["plain", "bearer", "basic"] {
            let url = format!("{}{path}", echo.url);
            let act = json!({ "act": "send", "url": url, "secret": "token", "form": form });
            let plugin = keeper(act, &echo.url, &secret).await;
            let seen = collect(&plugin).await.unwrap();
            let Scalar::Text(answer) = &seen["keeper.answer"] else {
                panic!("{seen:?}")
            };
            assert!(
                answer.starts_with(status) && answer.contains("x-calls: 1"),
                "{answer}"
            );
            assert!(answer.contains("****************"), "{answer}");
            assert!(!answer.contains(&secret), "{answer}");
            assert!(
                !answer.contains(&crate::secrets::basic_of(&secret)),
                "{answer}"
            );
        }
    }
    // One request each: the redirect to another host was not followed, and its answer went to the guest.
    let sent = echo.headers("authorization", "x-calls");
    assert_eq!(sent.len(), 6);
    assert!(
        sent.iter()
            .any(|(header, _)| *header == format!("Bearer {secret}"))
    );
}

#[tokio::test]
async fn a_guest_can_not_ask_for_an_answer_that_hides_an_echo() {
    let echo = Echo::listen().await;
    for (header, value) in [("accept-encoding", "gzip"), ("range", "bytes=0-10")] {
        let act = json!({
            "act": "steal", "url": echo.url, "secret": "token", "header": header, "value": value,
        });
        let plugin = keeper(act, &echo.url, "s3cret-value").await;
        collect(&plugin).await.unwrap();
        let sent = echo.headers("x-token", header);
        assert!(sent.iter().all(|(_, sent)| sent != value), "{sent:?}");
    }
    assert_eq!(echo.headers("x-token", "x-token").len(), 2);
}

#[tokio::test]
async fn state_is_bounded_in_keys_and_bytes_and_each_refusal_says_so() {
    for (keys, bytes, expected) in [
        (
            65,
            1,
            "the plugin keeps 64 keys for this node, which is the limit",
        ),
        (1, 16 * 1024 + 1, "a value has at most 16384 bytes"),
        (20, 16 * 1024, "and the limit is 262144"),
    ] {
        let act = json!({ "act": "fill", "keys": keys, "bytes": bytes });
        let plugin = keeper(act, "node:rpc", "unused").await;
        let refused = collect(&plugin).await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    let act = json!({ "act": "fill", "keys": 64, "bytes": 1024 });
    let plugin = keeper(act, "node:rpc", "unused").await;
    assert!(collect(&plugin).await.unwrap().is_empty());
}
