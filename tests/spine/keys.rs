//! A chain with a key: from the profile to the node's folder, and nowhere else in the clear.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::support::dev::Dev;
use crate::support::files::holding;

#[tokio::test]
async fn a_generated_key_is_in_its_nodes_folder_and_nowhere_else() {
    let mut dev = Dev::new(&[]);
    dev.edit(
        "chains/anvil-devnet/profile.yaml",
        "\nplugins:\n",
        "\nkeys:\n  identity: {algorithm: ed25519, path: config/identity.key}\n  engine: {algorithm: bytes32, path: config/engine.jwt}\nplugins:\n",
    );
    dev.edit(
        "recipes/anvil-devnet/full.yaml",
        "  - name: start-anvil\n",
        "  - {name: identity, type: key, with: {name: identity}}\n  - {name: engine, type: key, with: {name: engine}}\n  - name: start-anvil\n",
    );
    dev.start().await;
    let node = dev.healthy().await;
    let root = dev
        .path(".bellwether/agent/nodes")
        .join(node["id"].as_str().unwrap());
    let mut seen = Vec::new();
    for name in ["identity.key", "engine.jwt"] {
        let file: PathBuf = root.join("config").join(name);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let hex = std::fs::read_to_string(&file).unwrap();
        assert_eq!(hex.len(), 64, "{hex:?}");
        let raw: Vec<u8> = (0..32)
            .map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap())
            .collect();
        // Neither database, history, journal nor log has it, as text or as bytes.
        assert_eq!(holding(&dev.path("."), hex.as_bytes()), [file]);
        assert_eq!(holding(&dev.path("."), &raw), Vec::<PathBuf>::new());
        seen.push(hex);
    }
    assert_ne!(seen[0], seen[1]);
    let events = dev
        .get(&format!("nodes/{}/events", node["id"].as_str().unwrap()))
        .await;
    let made = events["items"].as_array().unwrap().iter();
    let made: Vec<_> = made
        .filter(|event| event["kind"] == "keys_generated")
        .collect();
    assert_eq!(made.len(), 1, "{events:#}");
    assert_eq!(made[0]["message"], "engine, identity");
}
