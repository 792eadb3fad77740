//! API keys: found by id, prefix and name, revoked once, and deleted when their time is over.

use host_domain::api_key::{ApiKey, ApiKeyState};
use host_domain::ids::ApiKeyId;
use host_domain::time::Millis;
use host_store::{Db, StoreError};
use uuid::Uuid;

use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    one_of_two_revocations_sees_the_last_key(db).await;
    a_key_is_found_and_revoked_once(db).await;
    two_active_keys_never_share_a_name(db).await;
    an_expired_key_gives_its_name_away_and_stays_expired(db).await;
    lists_filter_by_the_domains_rule_and_continue(db).await;
    uses_are_recorded_about_once_a_minute(db).await;
    keys_are_deleted_after_their_end(db).await;
}

fn key(name: &str) -> ApiKey {
    let id = Uuid::now_v7();
    ApiKey {
        id: ApiKeyId(id),
        prefix: format!("bw_live_{}", id.simple()),
        hash: "00".to_owned(),
        name: name.to_owned(),
        scopes: vec!["nodes:read".to_owned(), "keys:export".to_owned()],
        created_at: Millis(1),
        created_by: "host".to_owned(),
        expires_at: None,
        last_used_at: None,
        revoked_at: None,
    }
}

async fn stored(db: &Db, key: &ApiKey) {
    let mut tx = db.begin().await.unwrap();
    tx.insert_api_key(key).await.unwrap();
    tx.commit().await.unwrap();
}

async fn revoke(db: &Db, key: &ApiKey, at: i64) -> bool {
    let mut tx = db.begin().await.unwrap();
    let is_revoked = tx.revoke_api_key(key.id, Millis(at)).await.unwrap();
    tx.commit().await.unwrap();
    is_revoked
}

async fn a_key_is_found_and_revoked_once(db: &Db) {
    let key = ApiKey {
        expires_at: Some(Millis(90)),
        last_used_at: Some(Millis(2)),
        ..key("found")
    };
    stored(db, &key).await;
    assert_eq!(db.api_key(key.id).await.unwrap(), Some(key.clone()));
    assert_eq!(db.api_key(ApiKeyId(Uuid::nil())).await.unwrap(), None);
    let by_prefix = db.api_key_by_prefix(&key.prefix).await.unwrap();
    assert_eq!(by_prefix, Some(key.clone()));
    assert_eq!(db.api_key_by_prefix("bw_live_x").await.unwrap(), None);
    let by_name = db.api_key_by_name("found").await.unwrap();
    assert_eq!(by_name, Some(key.clone()));
    assert!(revoke(db, &key, 5).await);
    assert!(!revoke(db, &key, 6).await);
    let found = db.api_key(key.id).await.unwrap().unwrap();
    assert_eq!(found.revoked_at, Some(Millis(5)));
    assert_eq!(db.api_key_by_name("found").await.unwrap(), None);
}

async fn two_active_keys_never_share_a_name(db: &Db) {
    let first = key("shared");
    stored(db, &first).await;
    let mut tx = db.begin().await.unwrap();
    let taken = tx.insert_api_key(&key("shared")).await;
    assert!(
        matches!(taken, Err(StoreError::Conflict { .. })),
        "{taken:?}"
    );
    drop(tx);
    assert!(revoke(db, &first, 5).await);
    stored(db, &key("shared")).await;
}

async fn an_expired_key_gives_its_name_away_and_stays_expired(db: &Db) {
    let old = ApiKey {
        expires_at: Some(Millis(10)),
        ..key("given")
    };
    stored(db, &old).await;
    let free = async |at: i64| {
        let mut tx = db.begin().await.unwrap();
        let is_free = tx.free_expired_api_key_name("given", Millis(at)).await;
        tx.commit().await.unwrap();
        is_free.unwrap()
    };
    assert!(!free(9).await, "it is active");
    assert!(free(10).await);
    assert!(!free(11).await, "it was freed");
    stored(db, &key("given")).await;
    let old = db.api_key(old.id).await.unwrap().unwrap();
    assert_eq!(old.state(Millis(20)), ApiKeyState::Expired);
}

async fn lists_filter_by_the_domains_rule_and_continue(db: &Db) {
    for (name, expires_at, revoked_at) in [
        ("later", Some(200), None),
        ("over", Some(50), None),
        ("revoked-first", Some(50), Some(40)),
        ("revoked-last", Some(50), Some(60)),
    ] {
        let key = ApiKey {
            expires_at: expires_at.map(Millis),
            revoked_at: revoked_at.map(Millis),
            ..key(name)
        };
        stored(db, &key).await;
    }
    let now = Millis(100);
    let all = db.list_api_keys(None, now, None, 99).await.unwrap();
    assert!(all.is_sorted_by(|one, two| one.id > two.id), "newest first");
    for state in [
        ApiKeyState::Active,
        ApiKeyState::Expired,
        ApiKeyState::Revoked,
    ] {
        let expected: Vec<_> = all.iter().filter(|key| key.state(now) == state).collect();
        assert!(!expected.is_empty(), "{state:?}");
        let found = db.list_api_keys(Some(state), now, None, 99).await.unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{state:?}");
    }
    let first = db.list_api_keys(None, now, None, 2).await.unwrap();
    let rest = db.list_api_keys(None, now, Some(first[1].id), 99).await;
    assert_eq!([first, rest.unwrap()].concat(), all);
}

async fn uses_are_recorded_about_once_a_minute(db: &Db) {
    let key = key("used");
    stored(db, &key).await;
    let record = async |at: i64| {
        let mut tx = db.begin().await.unwrap();
        let since = Millis(at - 60);
        let is_recorded = tx.record_api_key_use(key.id, Millis(at), since).await;
        tx.commit().await.unwrap();
        is_recorded.unwrap()
    };
    assert!(record(100).await);
    assert!(!record(159).await, "too soon");
    assert!(record(160).await);
    assert!(!record(90).await, "an older use changes nothing");
    let found = db.api_key(key.id).await.unwrap().unwrap();
    assert_eq!(found.last_used_at, Some(Millis(160)));
}

async fn keys_are_deleted_after_their_end(db: &Db) {
    let ended = |name: &str, expires_at: Option<i64>, revoked_at: Option<i64>| ApiKey {
        expires_at: expires_at.map(Millis),
        revoked_at: revoked_at.map(Millis),
        ..key(name)
    };
    let keys = [
        ended("pruned-expired", Some(1), None),
        ended("pruned-revoked", None, Some(1)),
        ended("kept-expiring", Some(3), None),
        ended("kept", None, None),
    ];
    for key in &keys {
        stored(db, key).await;
    }
    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.prune_api_keys(Millis(2), 1).await.unwrap(), 1, "a limit");
    assert_eq!(tx.prune_api_keys(Millis(2), 9).await.unwrap(), 1);
    assert_eq!(tx.prune_api_keys(Millis(2), 9).await.unwrap(), 0);
    tx.commit().await.unwrap();
    for key in &keys[2..] {
        assert!(db.api_key(key.id).await.unwrap().is_some(), "{}", key.name);
    }
}

/// The last one with a scope is known, and two transactions that each revoke the other's key
/// do not both see one that is left.
async fn one_of_two_revocations_sees_the_last_key(db: &Db) {
    let admin = |name: &str| ApiKey {
        scopes: vec!["admin".to_owned()],
        ..key(name)
    };
    let (one, two) = (admin("one"), admin("two"));
    for key in [&one, &two, &key("reader")] {
        stored(db, key).await;
    }
    let has_other = |key: &ApiKey| db.has_other_api_key(key.id, "admin", Millis(5));
    assert!(has_other(&one).await.unwrap());
    let leave = async |own: &ApiKey| {
        loop {
            let mut tx = db.begin().await?;
            if let Err(StoreError::Undone(_)) = tx.lock_api_keys_with("admin").await {
                continue;
            }
            let is_other_left = tx.has_other_api_key(own.id, "admin", Millis(5)).await?;
            if is_other_left {
                tx.revoke_api_key(own.id, Millis(5)).await?;
            }
            tx.commit().await?;
            return Ok::<_, StoreError>(is_other_left);
        }
    };
    let (first, second) = tokio::join!(leave(&one), leave(&two));
    assert_ne!(first.unwrap(), second.unwrap(), "one of them stays");
    let left = db.list_api_keys(Some(ApiKeyState::Active), Millis(5), None, 9);
    assert_eq!(left.await.unwrap().len(), 2, "an admin and the reader");
}
