//! Values from a real vault.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host_domain::time::Clock;
use host_runtime::SecretSource;
use host_secrets::{PluginSecrets, SecretsConfig, VaultKvConfig};
use secrecy::ExposeSecret;
use serde_json::json;

use super::canary::canary;
use crate::support::bao::Bao;
use crate::support::fake_clock::FakeClock;

/// The policy that reads these secrets, as in docs/operator/secrets.md.
pub(crate) const POLICY: &str = r#"path "secret/data/team/*" { capabilities = ["read"] }"#;

/// A vault whose engine `secret` holds one secret with one field, and the file of a token that may read it.
pub(super) async fn vault_with(path: &str, field: &str, value: &str) -> (Bao, PathBuf) {
    let bao = Bao::start().await;
    let mut data = json!({ "attempts": 3 });
    data[field] = json!(value);
    bao.ask(&format!("secret/data/{path}"), &json!({ "data": data }))
        .await;
    bao.ask(
        "sys/policies/acl/plugin-secrets",
        &json!({ "policy": POLICY }),
    )
    .await;
    let wanted = json!({ "policies": ["plugin-secrets"], "ttl": "1h" });
    let made = bao.ask("auth/token/create", &wanted).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    let file = bao.file("plugin-secrets-token", token);
    (bao, file)
}

fn secrets(bao: &Bao, token_file: PathBuf, places: serde_json::Value) -> PluginSecrets {
    let places: SecretsConfig = serde_json::from_value(places).unwrap();
    let vault = VaultKvConfig {
        address: bao.address().parse().unwrap(),
        mount: "secret".to_owned(),
        namespace: None,
        ca_file: None,
        token_file: Some(token_file),
        approle: None,
        timeout: Duration::from_secs(5),
    };
    host_secrets::check(&places, Some(&vault)).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(FakeClock::new());
    PluginSecrets::new(places, Some(&vault), clock).unwrap()
}

#[tokio::test]
async fn a_field_of_the_vault_is_read_again_and_each_mistake_names_its_setting() {
    let value = canary();
    let (bao, token) = vault_with("team/pager", "password", &value).await;
    let place = |path: &str, field: &str| json!({ "vault": { "path": path, "field": field } });
    let secrets = secrets(
        &bao,
        token,
        json!({
            "right": place("team/pager", "password"),
            "no-field": place("team/pager", "user"),
            "no-text": place("team/pager", "attempts"),
            "no-secret": place("team/other", "password"),
            "forbidden": place("elsewhere", "password"),
            "no-path": place("../sys/seal", "password"),
        }),
    );
    secrets.refresh().await;
    let right = || secrets.secret("right").unwrap().expose_secret().to_owned();
    assert_eq!(right(), value);
    for (name, expected) in [
        ("no-field", "the secret `team/pager` has no field `user`"),
        (
            "no-text",
            "the field `attempts` of `team/pager` is not text",
        ),
        ("no-secret", "there is no secret `team/other` in `secret`"),
        ("forbidden", "the vault denies access: 403"),
        ("no-path", "is not a path"),
    ] {
        let reason = secrets.missing(name).unwrap();
        assert!(
            reason.starts_with(&format!("`secrets.{name}.vault`: ")),
            "{reason}"
        );
        assert!(reason.contains(expected), "{reason}");
        assert!(!reason.contains(&value), "{reason}");
        assert!(secrets.secret(name).is_none());
    }

    let rotated = canary();
    let data = json!({ "data": { "password": rotated } });
    bao.ask("secret/data/team/pager", &data).await;
    secrets.refresh().await;
    assert_eq!(right(), rotated);

    bao.seal().await;
    secrets.refresh().await;
    assert_eq!(right(), rotated, "what was read stays in use");
    let reason = secrets.missing("right").unwrap();
    assert!(
        reason.contains("the vault is unavailable") && reason.contains("sealed"),
        "{reason}"
    );
    bao.unseal().await;
    secrets.refresh().await;
    assert_eq!(secrets.missing("right"), None);
}
