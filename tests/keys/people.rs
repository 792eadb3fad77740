//! Keys that people bring and take away, by the command line of a whole host.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::dev::Dev;
use crate::support::files::holding;
use crate::support::wait::eventually;

/// No key of anybody's, and found in no other file.
fn brought() -> [u8; 32] {
    Sha256::digest(b"a key that a person brings").into()
}

/// A host whose node waits for `identity`, and the node's id.
async fn waiting() -> (Dev, String) {
    let mut dev = Dev::new(&[]);
    dev.edit(
        "chains/anvil-devnet/profile.yaml",
        "\nplugins:\n",
        "\nkeys:\n  identity: {source: user, exportable: true, algorithm: ed25519, path: config/identity.key}\n  engine: {algorithm: bytes32, path: config/engine.jwt}\nplugins:\n",
    );
    dev.edit(
        "recipes/anvil-devnet/full.yaml",
        "  - name: start-anvil\n",
        "  - {name: identity, type: key, timeout: 5m, with: {name: identity}}\n  - name: start-anvil\n",
    );
    dev.start().await;
    let node = eventually("there is a node", Duration::from_secs(30), async || {
        dev.node().await
    })
    .await;
    let id = node["id"].as_str().unwrap().to_owned();
    eventually(
        "the installation runs",
        Duration::from_mins(1),
        async || {
            let commands = dev.get(&format!("nodes/{id}/commands")).await;
            commands.to_string().contains("install").then_some(())
        },
    )
    .await;
    (dev, id)
}

#[tokio::test]
async fn a_key_is_brought_while_the_node_waits_for_it_and_taken_away_sealed() {
    let (dev, id) = waiting().await;
    let listed = dev.get(&format!("nodes/{id}/keys")).await;
    assert_eq!(listed[1]["name"], "identity", "{listed:#}");
    assert_eq!(listed[1]["is_present"], false, "{listed:#}");
    assert_eq!(listed[0]["is_present"], true, "{listed:#}");

    let file = dev.path("brought");
    std::fs::write(&file, hex::encode(brought())).unwrap();
    let import = |key: &str| {
        let file = file.to_str().unwrap();
        dev.command(&["key", "import", &id, key, "--file", file])
    };
    let (is_done, said) = import("identity");
    assert!(is_done, "{said}");
    let node = dev.healthy().await;
    assert_eq!(node["id"], id.as_str());
    let used = dev.path(".bellwether/agent/nodes").join(&id);
    let used = used.join("config/identity.key");
    let text = std::fs::read_to_string(&used).unwrap();
    assert_eq!(text, hex::encode(brought()));

    assert!(import("identity").0, "the same key again is welcome");
    let (is_done, said) = import("engine");
    assert!(!is_done && said.contains("source: user"), "{said}");
    let (is_done, said) = import("nothing");
    assert!(!is_done && said.contains("does not exist"), "{said}");
    std::fs::write(&file, [0x5b; 32]).unwrap();
    let (is_done, said) = import("identity");
    assert!(!is_done && said.contains("never changes"), "{said}");
    std::fs::remove_file(&file).unwrap();
    is_taken_away_sealed(&dev, &id);
    is_nowhere_else(&dev, &id, &used).await;
    answers_are_not_kept(&dev, &id).await;
}

fn is_taken_away_sealed(dev: &Dev, id: &str) {
    let taken = dev.path("taken");
    let export = |key: &str| {
        let file = taken.to_str().unwrap();
        dev.command(&["key", "export", id, key, "--file", file])
    };
    let (is_done, said) = export("engine");
    assert!(!is_done && said.contains("exportable: true"), "{said}");
    assert!(!taken.exists(), "nothing is left of a refused export");
    let (is_done, said) = export("identity");
    assert!(is_done, "{said}");
    let text = std::fs::read_to_string(&taken).unwrap();
    assert_eq!(text.trim(), hex::encode(brought()));
    assert!(!export("identity").0, "no file is written over");
    std::fs::remove_file(&taken).unwrap();
}

async fn is_nowhere_else(dev: &Dev, id: &str, used: &Path) {
    // In no database, history, journal or log, in any of the forms that it came in.
    for form in [
        hex::encode(brought()).into_bytes(),
        STANDARD.encode(brought()).into_bytes(),
    ] {
        let found = holding(&dev.path("."), &form);
        assert!(found.iter().all(|path| path == used), "{found:?}");
    }
    assert!(holding(&dev.path("."), &brought()).is_empty());
    let events = dev.get(&format!("nodes/{id}/events")).await.to_string();
    for kind in ["keys_imported", "keys_exported"] {
        assert!(events.contains(kind), "{events}");
    }
}

async fn answers_are_not_kept(dev: &Dev, id: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/api/v1/nodes/{id}/keys/identity/export", dev.address());
    let recipient = json!({ "recipient": STANDARD.encode([9_u8; 32]) });
    let request = client.post(&url).bearer_auth(dev.key()).json(&recipient);
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let bad = json!({ "recipient": STANDARD.encode([0_u8; 32]) });
    let request = client.post(&url).bearer_auth(dev.key()).json(&bad);
    assert_eq!(request.send().await.unwrap().status(), 400);
}
