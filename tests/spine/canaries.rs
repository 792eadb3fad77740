//! Every secret of a host and its agent is a canary, on both kinds of installation and with all traces switched on. Nothing that
//! the host and its servers write, and no answer of the API, contains one of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::scene::{Scene, on_both_kinds};
use crate::support::bao::Bao;
use crate::support::canary::Canaries;
use crate::support::dev::Dev;
use crate::support::nats::{Nats, Version};
use crate::support::wait::eventually;
use crate::support::weed::{ACCESS_KEY_ID, Weed};

const BUCKET: &str = "canaries";
/// How long a stream of events is read.
const STREAM: Duration = Duration::from_secs(5);

on_both_kinds!(no_secret_is_in_anything_that_is_written_or_answered);

async fn no_secret_is_in_anything_that_is_written_or_answered(scene: Scene) {
    let mut scene = scene.served();
    let mut canaries = Canaries::default();
    let (bao, weed) = (Bao::start().await, Weed::start(BUCKET).await);
    let dev = &mut scene.dev;
    dev.set("RUST_LOG", "trace");
    let nats = bus(dev, &mut canaries).await;
    vault(dev, &bao, &mut canaries).await;
    backup(dev, &weed, &mut canaries);
    let id = node_with_keys(&mut scene, &mut canaries).await;
    let dev = &scene.dev;
    canaries.are_in_use();

    for command in [["node", "list"], ["key", "list"], ["plugin", "list"]] {
        let args = if command[0] == "key" {
            vec![command[0], command[1], &id]
        } else {
            command.to_vec()
        };
        let (_, said) = dev.command(&args);
        canaries.are_not_in(&BTreeMap::from([(command.join(" "), said)]));
    }
    let (operation, node) = (operation_of(dev, &id).await, id);
    let answers = answers(dev, &node, &operation).await;
    canaries.are_not_in(&answers);
    canaries.are_not_below(&dev.path("."));
    for folder in scene.server_folders() {
        canaries.are_not_below(&folder);
    }
    drop(nats);
}

/// A bus with a password, which the host reads from a file.
async fn bus(dev: &mut Dev, canaries: &mut Canaries) -> Nats {
    let file = dev.path("nats-url");
    let password = canaries.make("the password of the bus", std::slice::from_ref(&file));
    let login = ["--user", "bell", "--pass", &password];
    let nats = Nats::start_with(Version::Newest, &login).await;
    let url = nats.url().replace("//", &format!("//bell:{password}@"));
    std::fs::write(&file, url).unwrap();
    dev.set("BELLWETHER_EVENTS__NATS_URL_FILE", "nats-url");
    nats
}

/// A vault that wraps the keys, with a token from a file.
async fn vault(dev: &mut Dev, bao: &Bao, canaries: &mut Canaries) {
    let file = bao.token_file("token", "1h").await;
    let token = std::fs::read_to_string(&file).unwrap();
    canaries.add(
        "the vault's token",
        token.trim().as_bytes(),
        std::slice::from_ref(&file),
    );
    dev.set("BELLWETHER_KEYS__WRAPPED_BY", "vault");
    dev.set("BELLWETHER_KEYS__VAULT__ADDRESS", bao.address());
    dev.set("BELLWETHER_KEYS__VAULT__TOKEN_FILE", file.to_str().unwrap());
}

/// A bucket for sealed keys, with a secret key from a file.
fn backup(dev: &mut Dev, weed: &Weed, canaries: &mut Canaries) {
    let file = weed.secret_file();
    let secret = std::fs::read(&file).unwrap();
    canaries.add(
        "the bucket's secret key",
        &secret,
        std::slice::from_ref(&file),
    );
    let url = format!("s3://{BUCKET}/copies");
    dev.set("BELLWETHER_KEYS__BACKUP__URL", &url);
    for (key, value) in [
        ("ENDPOINT", weed.endpoint().as_str()),
        ("REGION", "us-east-1"),
        ("ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("SECRET_ACCESS_KEY_FILE", file.to_str().unwrap()),
    ] {
        dev.set(&format!("BELLWETHER_KEYS__BACKUP__S3__{key}"), value);
    }
}

/// Makes a node with a generated key and an imported one, and gives its id.
async fn node_with_keys(scene: &mut Scene, canaries: &mut Canaries) -> String {
    let dev = &mut scene.dev;
    dev.edit(
        "chains/anvil-devnet/profile.yaml",
        "\nplugins:\n",
        "\nkeys:\n  identity: {source: user, algorithm: bytes32, path: config/identity.key}\n  engine: {algorithm: bytes32, path: config/engine.jwt}\nplugins:\n",
    );
    dev.edit(
        "recipes/anvil-devnet/full.yaml",
        "  - name: start-anvil\n",
        "  - {name: identity, type: key, timeout: 5m, with: {name: identity}}\n  - {name: engine, type: key, with: {name: engine}}\n  - name: start-anvil\n",
    );
    let (is_migrated, said) = dev.command(&["migrate"]);
    assert!(is_migrated, "{said}");
    dev.start().await;
    let places = [dev.path(".bellwether/admin-key")];
    canaries.add("the administrator's API key", dev.key().as_bytes(), &places);
    refused_key(dev, canaries).await;
    dev.start_agent().await;
    let token = dev.path("agent.token");
    let value = std::fs::read_to_string(&token).unwrap();
    canaries.add("the enrolment token", value.trim().as_bytes(), &[token]);

    let made = dev.post("nodes", &json!({ "chain": "anvil-devnet" })).await;
    let id = made["node_id"].as_str().unwrap().to_owned();
    let folder = dev.path("agent/nodes").join(&id).join("config");
    import_key(dev, &id, folder.join("identity.key"), canaries).await;
    dev.healthy().await;
    let engine = folder.join("engine.jwt");
    let material = std::fs::read_to_string(&engine).unwrap();
    let bytes = hex::decode(material.trim()).unwrap();
    canaries.add("a generated key", &bytes, &[engine]);
    id
}

/// A key that the host does not know is a secret as well: somebody may have mistyped a real one.
async fn refused_key(dev: &Dev, canaries: &mut Canaries) {
    let key = format!("bw_{}", canaries.make("a refused API key", &[]));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/api/v1/nodes", dev.address());
    let answer = client.get(url).bearer_auth(key).send().await.unwrap();
    assert_eq!(answer.status(), 401);
}

async fn import_key(dev: &Dev, id: &str, place: PathBuf, canaries: &mut Canaries) {
    let material: [u8; 32] = std::array::from_fn(|_| uuid::Uuid::new_v4().as_bytes()[0]);
    canaries.add("an imported key", &material, &[place]);
    let file = dev.path("imported");
    std::fs::write(&file, hex::encode(material)).unwrap();
    let file_name = file.to_str().unwrap();
    eventually("the key is imported", Duration::from_mins(1), async || {
        let args = ["key", "import", id, "identity", "--file", file_name];
        dev.command(&args).0.then_some(())
    })
    .await;
    std::fs::remove_file(file).unwrap();
}

async fn operation_of(dev: &Dev, node: &str) -> String {
    let node = dev.get(&format!("nodes/{node}")).await;
    node["operation_id"].as_str().unwrap().to_owned()
}

/// The answer of every path that the API's document names, and of those outside it.
async fn answers(dev: &Dev, node: &str, operation: &str) -> BTreeMap<String, String> {
    let document = dev.system("api/openapi.json").await;
    let document: Value = document.json().await.unwrap();
    let paths = document["paths"].as_object().unwrap();
    let with_get = paths.iter().filter(|(_, path)| path["get"].is_object());
    let mut answers = BTreeMap::new();
    for (path, _) in with_get {
        let path = fill(path, node, operation);
        let text = answer(dev, &path).await;
        answers.insert(path, text);
    }
    assert!(answers.len() > 20, "the document has lost its paths");
    answers
}

/// Replaces what a path leaves open.
fn fill(path: &str, node: &str, operation: &str) -> String {
    let id = if path.contains("/workflows/") {
        format!("provision-{node}")
    } else {
        operation.to_owned()
    };
    path.replace("{node}", node)
        .replace("{chain}", "anvil-devnet")
        .replace("{id}", &id)
}

/// The answer's body; of a stream the beginning.
async fn answer(dev: &Dev, path: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}{path}", dev.address());
    let mut answer = client.get(url).bearer_auth(dev.key()).send().await.unwrap();
    let mut body = Vec::new();
    let read = tokio::time::timeout(STREAM, async {
        while let Some(part) = answer.chunk().await.unwrap() {
            body.extend_from_slice(&part);
        }
    });
    let _ = read.await;
    String::from_utf8_lossy(&body).into_owned()
}
