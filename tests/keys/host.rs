//! A whole host on a vault: started, cut off, healed.

use std::time::Duration;

use serde_json::Value;

use crate::support::bao::Bao;
use crate::support::dev::Dev;
use crate::support::wait::eventually;

/// A chain with one key, written by its recipe.
pub(super) fn chain_with_a_key(dev: &Dev) {
    dev.edit(
        "chains/anvil-devnet/profile.yaml",
        "\nplugins:\n",
        "\nkeys:\n  identity: {algorithm: ed25519, path: config/identity.key}\nplugins:\n",
    );
    dev.edit(
        "recipes/anvil-devnet/full.yaml",
        "  - name: start-anvil\n",
        "  - {name: identity, type: key, with: {name: identity}}\n  - name: start-anvil\n",
    );
}

async fn is_keys_part_ready(dev: &Dev) -> Option<bool> {
    let url = format!("{}/readyz", dev.address());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ready: Value = client.get(url).send().await.ok()?.json().await.ok()?;
    let parts = ready["components"].as_array()?.iter();
    let mut keys = parts.filter(|part| part["name"] == "keys");
    keys.next()?["is_ready"].as_bool()
}

#[tokio::test]
async fn a_host_whose_vault_is_sealed_does_not_start_and_heals_when_it_was_sealed_later() {
    let bao = Bao::start().await;
    let token = bao.token_file("token", "1h").await;
    let mut dev = Dev::new(&[]);
    dev.set("BELLWETHER_KEYS__WRAPPED_BY", "vault");
    dev.set("BELLWETHER_KEYS__VAULT__ADDRESS", bao.address());
    dev.set(
        "BELLWETHER_KEYS__VAULT__TOKEN_FILE",
        token.to_str().unwrap(),
    );
    chain_with_a_key(&dev);
    bao.seal().await;
    let (is_started, said) = dev.command(&["serve", "--config", "bellwether.yaml"]);
    assert!(!is_started && said.contains("unseal it"), "{said}");
    bao.unseal().await;

    dev.start().await;
    let first = dev.healthy().await;
    assert!(!dev.path(".bellwether/master-keys").exists());
    assert_eq!(is_keys_part_ready(&dev).await, Some(true));

    bao.seal().await;
    assert_eq!(is_keys_part_ready(&dev).await, Some(false));
    let wanted = serde_json::json!({ "chain": "anvil-devnet", "name": "second" });
    let made = dev.post("nodes", &wanted).await;
    let id = made["node_id"].as_str().unwrap().to_owned();
    let operation = format!("operations/{}", made["operation"]["id"].as_str().unwrap());
    eventually(
        "its keys are to be made",
        Duration::from_secs(30),
        async || {
            let steps = dev.get(&operation).await;
            (steps.to_string().contains("generate_keys")).then_some(())
        },
    )
    .await;
    bao.unseal().await;
    eventually(
        "the second node is healthy",
        Duration::from_mins(2),
        async || {
            let node = dev.get(&format!("nodes/{id}")).await;
            (node["display_state"] == "healthy").then_some(())
        },
    )
    .await;
    assert_eq!(is_keys_part_ready(&dev).await, Some(true));
    assert_eq!(first["display_state"], "healthy");
}
