//! Copies of sealed keys: in a real bucket, and on a whole host that loses its rows.

use std::path::PathBuf;
use std::time::Duration;

use host_domain::ids::{KeyId, NodeId};
use host_domain::key::{KeyAlgorithm, NodeKey, SealedKey};
use host_domain::time::Millis;
use host_keys::{BackupConfig, S3Config};
use host_keys::{BackupError, KeyBackup};
use sqlx::{Connection, SqliteConnection};
use uuid::Uuid;

use super::host::chain_with_a_key;
use crate::support::dev::Dev;
use crate::support::wait::eventually;
use crate::support::weed::{ACCESS_KEY_ID, Weed};

fn key(name: &str) -> NodeKey {
    NodeKey {
        id: KeyId(Uuid::from_u128(1)),
        node_id: NodeId(Uuid::from_u128(7)),
        name: name.to_owned(),
        algorithm: KeyAlgorithm::Ed25519,
        public_key: vec![1; 32],
        sealed: SealedKey {
            master_key: "m".to_owned(),
            data_key: vec![2; 60],
            material: vec![3; 60],
        },
        created_at: Millis(5),
        delete_after: None,
        backup: None,
        version: 1,
    }
}

fn bucket(weed: &Weed) -> BackupConfig {
    BackupConfig {
        url: "s3://bellwether-keys/copies".parse().unwrap(),
        s3: Some(S3Config {
            endpoint: Some(weed.endpoint().parse().unwrap()),
            region: "us-east-1".to_owned(),
            access_key_id: Some(ACCESS_KEY_ID.to_owned()),
            secret_access_key_file: Some(weed.secret_file()),
            ca_file: None,
        }),
        timeout: Duration::from_secs(10),
    }
}

#[tokio::test]
async fn a_bucket_keeps_copies_and_is_told_so_while_it_is_away() {
    let mut weed = Weed::start("bellwether-keys").await;
    let backup = KeyBackup::open(&bucket(&weed)).unwrap();
    backup.write(&key("p2p")).await.unwrap();
    backup.write(&key("engine")).await.unwrap();
    let wrapped_anew = NodeKey {
        sealed: SealedKey {
            master_key: "n".to_owned(),
            ..key("p2p").sealed
        },
        ..key("p2p")
    };
    backup.write(&wrapped_anew).await.unwrap();
    let all = backup.all().await.unwrap();
    let kept: Vec<_> = all.iter().map(|(_, key)| key.as_ref().unwrap()).collect();
    assert_eq!(kept, [&key("engine"), &wrapped_anew]);
    assert!(all[0].0.starts_with("copies/"), "{}", all[0].0);

    let strange = KeyBackup::open(&BackupConfig {
        url: "s3://no-such-bucket".parse().unwrap(),
        ..bucket(&weed)
    });
    assert!(strange.unwrap().write(&key("p2p")).await.is_err());
    weed.kill();
    let limit = Duration::from_secs(30);
    let away = tokio::time::timeout(limit, backup.write(&key("late"))).await;
    let away = away.unwrap().unwrap_err();
    assert!(matches!(
        away,
        BackupError::Away { .. } | BackupError::Silent { .. }
    ));
    assert!(away.to_string().contains("keys.backup"), "{away}");
    weed.start_again().await;
    crate::support::wait::eventually("the bucket is there again", limit, async || {
        backup.write(&key("late")).await.ok()
    })
    .await;
    for name in ["p2p", "engine", "late", "late"] {
        backup.delete(key("p2p").node_id, name).await.unwrap();
    }
    assert_eq!(backup.all().await.unwrap().len(), 0);
}

/// An installation with a node that has a key, and where its copies are.
async fn with_copies() -> (Dev, PathBuf) {
    let mut dev = Dev::new(&[]);
    let copies = dev.path("copies");
    let url = format!("file://{}", copies.display());
    dev.set("BELLWETHER_KEYS__BACKUP__URL", &url);
    chain_with_a_key(&dev);
    dev.start().await;
    (dev, copies)
}

#[tokio::test]
async fn a_copy_is_there_before_a_key_is_used_and_brings_it_back_into_a_database_that_lost_it() {
    let (mut dev, copies) = with_copies().await;
    let node = dev.healthy().await;
    let id = node["id"].as_str().unwrap().to_owned();
    let keys = dev.get(&format!("nodes/{id}/keys")).await;
    let place = keys[0]["backup"].as_str().unwrap();
    assert!(place.starts_with("file:///"), "{keys:#}");
    let copy = std::fs::read_to_string(copies.join(&id).join("identity.json")).unwrap();
    let used = dev.path(".bellwether/agent/nodes").join(&id);
    let used = std::fs::read_to_string(used.join("config/identity.key")).unwrap();
    assert!(!copy.contains(used.trim()), "the copy is sealed");
    assert!(dev.interrupt_host().await);

    let restore = ["key", "restore", "--config", "bellwether.yaml"];
    let (is_done, said) = dev.command(&restore);
    assert!(
        is_done && said.contains("0 keys restored, 1 were in the database"),
        "{said}"
    );
    let url = format!(
        "sqlite://{}",
        dev.path(".bellwether/bellwether.db").display()
    );
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    let lost = sqlx::query("DELETE FROM node_keys").execute(&mut database);
    assert_eq!(lost.await.unwrap().rows_affected(), 1);
    database.close().await.unwrap();
    let (is_done, said) = dev.command(&restore);
    assert!(
        is_done && said.contains("1 keys restored, 0 were in the database"),
        "{said}"
    );

    dev.start().await;
    let again = dev.get(&format!("nodes/{id}/keys")).await;
    assert_eq!(again[0]["public_key"], keys[0]["public_key"]);
    assert_eq!(again[0]["is_present"], true);
    let events = dev.get(&format!("nodes/{id}/events")).await;
    assert!(events.to_string().contains("keys_restored"), "{events:#}");
}

#[tokio::test]
async fn a_last_copy_of_keys_is_made_before_anything_is_done() {
    let (dev, copies) = with_copies().await;
    let node = dev.healthy().await;
    let id = node["id"].as_str().unwrap();
    let copy = copies.join(id).join("identity.json");
    std::fs::remove_file(&copy).unwrap();
    // It is healthy a moment before it is made.
    let made = format!("operations/{}", node["operation_id"].as_str().unwrap());
    eventually("it is made", Duration::from_mins(1), async || {
        (dev.get(&made).await["state"] == "succeeded").then_some(())
    })
    .await;

    let terminate = ["node", "terminate", id, "--backup-keys", "--wait"];
    let (is_done, said) = dev.command(&terminate);
    assert!(is_done, "{said}");
    assert!(copy.is_file(), "the copy that was lost is there again");
    let node = dev.get(&format!("nodes/{id}")).await;
    let operation = node["operation_id"].as_str().unwrap();
    let operation = dev.get(&format!("operations/{operation}")).await;
    let steps = operation["steps"].as_array().unwrap().iter();
    let steps: Vec<_> = steps.map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(steps[..3], ["back_up_keys", "mark_terminating", "stop"]);
}

#[tokio::test]
async fn a_last_copy_is_refused_where_none_are_kept() {
    let mut dev = Dev::new(&[]);
    dev.start().await;
    let node = dev.healthy().await;
    let id = node["id"].as_str().unwrap();
    let (is_done, said) = dev.command(&["node", "terminate", id, "--backup-keys"]);
    assert!(!is_done && said.contains("keys.backup.url"), "{said}");
    let node = dev.get(&format!("nodes/{id}")).await;
    assert_eq!(node["state"], "healthy");
}
