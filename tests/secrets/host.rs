//! Notifiers of a host.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::canary::{canary, files_with};
use super::vault::vault_with;
use crate::plugins::support::guest;
use crate::support::dev::Dev;
use crate::support::echo::Echo;
use crate::support::wait::eventually;

const LIMIT: Duration = Duration::from_mins(1);
/// The notifier with a secret of each place, in each form.
const NOTIFIERS: [(&str, &str); 3] = [
    ("from-file", "bearer"),
    ("from-environment", "plain"),
    ("from-vault", "basic"),
];
const FILE: &str = "notifications/keepers.yaml";

/// Each notifier is told of a configuration folder that was rejected.
fn notifications(url: &str) -> Value {
    let plugin = |name: &str, form: &str| {
        json!({
            "component": "components/keeper-notifier.wasm",
            "grants": { "http": [{ "target": url }], "secrets": [name], "kv": true },
            "config": { "url": url, "secret": name, "form": form },
            "limits": { "cpu": "5s" },
        })
    };
    let (mut plugins, mut receivers, mut routes) = (json!({}), Vec::new(), Vec::new());
    for (name, form) in NOTIFIERS {
        plugins[name] = plugin(name, form);
        receivers.push(json!({ "name": name, "plugin": name }));
        routes.push(json!({
            "name": name, "receiver": name, "group_wait": "0s",
            "match": { "category": ["config_rejected"] },
        }));
    }
    json!({ "schema_version": "1.0", "plugins": plugins, "receivers": receivers, "routes": routes })
}

fn prepare(dev: &Dev, echo: &Echo) {
    let component = dev.path("chain-configs/components/keeper-notifier.wasm");
    std::fs::write(component, guest("keeper-notifier")).unwrap();
    dev.write(FILE, &notifications(&echo.url).to_string());
}

/// Breaks the folder and mends it again: one incident, of which each notifier is told twice.
async fn reject_and_mend(dev: &Dev, echo: &Echo) {
    let before = n_messages(echo);
    dev.write("notifications/broken.yaml", "schema_version: none\n");
    told(echo, before + NOTIFIERS.len()).await;
    mend(dev).await;
    told(echo, before + 2 * NOTIFIERS.len()).await;
}

async fn mend(dev: &Dev) {
    std::fs::remove_file(dev.path("chain-configs/notifications/broken.yaml")).unwrap();
    dev.post("plugins/reload", &Value::Null).await;
}

fn n_messages(echo: &Echo) -> usize {
    echo.headers("x-calls", "x-calls").len()
}

async fn told(echo: &Echo, n: usize) {
    eventually("each notifier was told", LIMIT, async || {
        (n_messages(echo) >= n).then_some(())
    })
    .await;
}

/// The calls that a notifier counted, by the header that carries its secret.
fn calls(echo: &Echo, header: &str, value: &str) -> Vec<u64> {
    let pairs = echo.headers(header, "x-calls");
    let own = pairs.iter().filter(|(secret, _)| secret == value);
    own.map(|(_, calls)| calls.parse().unwrap()).collect()
}

#[tokio::test]
async fn notifiers_use_secrets_that_they_never_see_and_their_state_outlives_kills() {
    let (of_file, of_environment, of_vault) = (canary(), canary(), canary());
    let (vault, token) = vault_with("team/pager", "password", &of_vault).await;
    let echo = Echo::listen().await;
    let mut dev = Dev::serve_embedded();
    prepare(&dev, &echo);
    let file = dev.path("hook-token");
    std::fs::write(&file, format!("{of_file}\n")).unwrap();
    dev.set("HOOK_KEY", &of_environment);
    dev.configure(&format!(
        "secrets:\n  from-file: {{file: {}}}\n  from-environment: {{env: HOOK_KEY}}\n  from-vault: {{vault: {{path: team/pager, field: password}}}}\nvault: {{address: '{}', token_file: {}}}\n",
        file.display(),
        vault.address(),
        token.display()
    ));
    dev.start().await;
    reject_and_mend(&dev, &echo).await;

    let bearer = format!("Bearer {of_file}");
    let basic = format!("Basic {}", STANDARD.encode(format!("ops:{of_vault}")));
    let counted = |echo: &Echo, bearer: &str| {
        [
            calls(echo, "authorization", bearer),
            calls(echo, "x-api-key", &of_environment),
            calls(echo, "authorization", &basic),
        ]
    };
    assert_eq!(
        counted(&echo, &bearer),
        [[1, 2], [1, 2], [1, 2]].map(Vec::from)
    );

    dev.kill_host();
    dev.start().await;
    reject_and_mend(&dev, &echo).await;
    let all = [1, 2, 3, 4];
    assert_eq!(counted(&echo, &bearer), [all, all, all].map(Vec::from));

    // A rotated value is used after a reload, without a restart.
    let rotated = canary();
    std::fs::write(&file, &rotated).unwrap();
    dev.post("plugins/reload", &Value::Null).await;
    reject_and_mend(&dev, &echo).await;
    let bearer = format!("Bearer {rotated}");
    assert_eq!(calls(&echo, "authorization", &bearer), [5, 6]);

    dev.kill_host();
    let folder = dev.path("");
    for value in [&of_file, &of_environment, &of_vault, &rotated] {
        let found = files_with(&folder, value, std::slice::from_ref(&file));
        assert!(found.is_empty(), "{found:?}");
    }
    let masked = "*".repeat(of_file.len());
    let masked = files_with(&folder, &masked, &[]);
    assert!(!masked.is_empty(), "the answers repeat what was sent");
}

#[tokio::test]
async fn a_grant_for_a_secret_without_a_value_is_an_error_that_names_setting_and_place() {
    let echo = Echo::listen().await;
    let mut dev = Dev::serve_embedded();
    prepare(&dev, &echo);
    let file = dev.path("hook-token");
    let settings =
        |places: &str| format!("secrets:\n  from-environment: {{env: HOOK_KEY}}\n{places}");
    dev.set("HOOK_KEY", "key");
    dev.configure(&settings(&format!(
        "  from-file: {{file: {}}}\n  from-vault: {{env: NO_SUCH_VARIABLE}}\n",
        file.display()
    )));
    let expected = [
        "notifications/keepers.yaml:",
        "plugins.from-file.grants.secrets[0]: the secret `from-file` has no value: `secrets.from-file.file`:",
        "plugins.from-vault.grants.secrets[0]: the secret `from-vault` has no value: `secrets.from-vault.env`: the variable `NO_SUCH_VARIABLE` is not set",
    ];
    let validate = [
        "chain",
        "validate",
        "chain-configs",
        "--dev",
        "--config",
        "bellwether.yaml",
    ];
    for command in [&validate[..], &["serve", "--config", "bellwether.yaml"]] {
        let (is_fine, said) = dev.command(command);
        assert!(!is_fine, "{command:?}: {said}");
        for text in expected {
            assert!(said.contains(text), "{command:?}: {said}");
        }
        assert!(!said.contains("`from-environment` has no value"), "{said}");
    }

    std::fs::write(&file, "token").unwrap();
    dev.set("NO_SUCH_VARIABLE", "password");
    let (is_fine, said) = dev.command(&validate);
    assert!(is_fine, "{said}");
    dev.start().await;
    assert_eq!(dev.incidents("config_rejected").await, Vec::<Value>::new());

    // A reload without the value changes nothing: the plugin goes on with the value that it has.
    std::fs::remove_file(&file).unwrap();
    let (is_fine, said) = dev.command(&["plugin", "reload"]);
    assert!(
        !is_fine && said.contains("the secret `from-file` has no value"),
        "{said}"
    );
    is_rejected(&dev).await;
    let sent = format!("Bearer {}", "token");
    told(&echo, NOTIFIERS.len()).await;
    assert_eq!(calls(&echo, "authorization", &sent), [1]);

    // The host finds the value when it is back, without a reload.
    std::fs::write(&file, "token").unwrap();
    is_resolved(&dev).await;
    told(&echo, 2 * NOTIFIERS.len()).await;
    assert_eq!(calls(&echo, "authorization", &sent), [1, 2]);

    // A restart without it uses the last configuration that worked, and the plugin is broken until the value is back.
    dev.kill_host();
    std::fs::remove_file(&file).unwrap();
    dev.start().await;
    is_rejected(&dev).await;
    let plugins = dev.get("plugins").await;
    assert!(
        plugins.to_string().contains("`secrets.from-file.file`"),
        "{plugins:#}"
    );
    std::fs::write(&file, "token").unwrap();
    eventually("the plugin works again", LIMIT, async || {
        let sent = calls(&echo, "authorization", &sent);
        (sent.len() > 2).then_some(())
    })
    .await;
    is_resolved(&dev).await;
}

async fn is_resolved(dev: &Dev) {
    eventually("the rejection is resolved", LIMIT, async || {
        let incidents = dev.incidents("config_rejected").await;
        let mut states = incidents.iter().map(|incident| &incident["state"]);
        states.all(|state| state == "resolved").then_some(())
    })
    .await;
}

async fn is_rejected(dev: &Dev) {
    eventually("the rejection is an incident", LIMIT, async || {
        let incidents = dev.incidents("config_rejected").await;
        let open = incidents.iter().find(|one| one["state"] != "resolved")?;
        open.to_string()
            .contains("the secret `from-file` has no value")
            .then_some(())
    })
    .await;
}
