//! State that plugins keep.

use host_domain::time::Millis;
use host_store::{Db, PluginKvScope, PluginKvUse};

use super::builders::stored_node;
use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    a_value_is_set_replaced_and_deleted(db).await;
    what_is_kept_is_counted_beside_the_key(db).await;
    state_goes_with_its_node(db).await;
    state_of_a_plugin_that_is_gone_goes_after_its_time(db).await;
}

fn scope<'a>(plugin: &'a str, node: &'a str) -> PluginKvScope<'a> {
    PluginKvScope { plugin, node }
}

async fn set(db: &Db, scope: PluginKvScope<'_>, key: &str, value: &[u8]) {
    let mut tx = db.begin().await.unwrap();
    tx.set_plugin_kv(scope, key, value).await.unwrap();
    tx.commit().await.unwrap();
}

async fn a_value_is_set_replaced_and_deleted(db: &Db) {
    let one = scope("one", "");
    set(db, one, "k", &[0, 255, 7]).await;
    set(db, scope("two", ""), "k", b"two").await;
    set(db, scope("one", "n"), "k", b"of a node").await;
    let found = db.plugin_kv(one, "k").await.unwrap();
    assert_eq!(found.as_deref(), Some(&[0, 255, 7][..]));
    set(db, one, "k", b"").await;
    assert_eq!(db.plugin_kv(one, "k").await.unwrap(), Some(Vec::new()));
    let mut tx = db.begin().await.unwrap();
    assert!(tx.delete_plugin_kv(one, "k").await.unwrap());
    assert!(!tx.delete_plugin_kv(one, "k").await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(db.plugin_kv(one, "k").await.unwrap(), None);
    let other = db.plugin_kv(scope("two", ""), "k").await.unwrap();
    assert_eq!(other.as_deref(), Some(&b"two"[..]));
    assert_eq!(db.plugins_with_kv(9).await.unwrap(), ["one", "two"]);
    assert_eq!(db.plugins_with_kv(1).await.unwrap(), ["one"]);
}

async fn what_is_kept_is_counted_beside_the_key(db: &Db) {
    let own = scope("counted", "n");
    let used = db.plugin_kv_use(own, "k").await.unwrap();
    assert_eq!(used, PluginKvUse::default());
    set(db, own, "k", &[1; 10]).await;
    set(db, own, "key", &[1; 100]).await;
    set(db, own, "key", &[1; 20]).await;
    set(db, scope("counted", "m"), "other", &[1; 50]).await;
    let beside = |keys, bytes| PluginKvUse { keys, bytes };
    assert_eq!(db.plugin_kv_use(own, "k").await.unwrap(), beside(1, 23));
    assert_eq!(db.plugin_kv_use(own, "key").await.unwrap(), beside(1, 11));
    assert_eq!(db.plugin_kv_use(own, "new").await.unwrap(), beside(2, 34));
}

async fn state_goes_with_its_node(db: &Db) {
    let (node, other) = (stored_node(db, "kv").await, stored_node(db, "kv-other").await);
    let (id, of_other) = (node.id.to_string(), other.id.to_string());
    for plugin in ["a", "b"] {
        set(db, scope(plugin, &id), "k", b"v").await;
        set(db, scope(plugin, &of_other), "k", b"v").await;
    }
    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.delete_plugin_kv_of_node(node.id).await.unwrap(), 2);
    assert_eq!(tx.delete_plugin_kv_of_node(node.id).await.unwrap(), 0);
    tx.commit().await.unwrap();
    assert_eq!(db.plugin_kv(scope("a", &id), "k").await.unwrap(), None);
    let kept = db.plugin_kv(scope("a", &of_other), "k").await.unwrap();
    assert!(kept.is_some());
}

async fn state_of_a_plugin_that_is_gone_goes_after_its_time(db: &Db) {
    let (gone, back) = (scope("gone", ""), scope("back", ""));
    for plugin in [gone, back] {
        set(db, plugin, "k", b"v").await;
        set(db, plugin, "again", b"v").await;
    }
    let mut tx = db.begin().await.unwrap();
    for plugin in ["gone", "back"] {
        assert_eq!(tx.retire_plugin_kv(plugin, Millis(100)).await.unwrap(), 2);
        assert_eq!(tx.retire_plugin_kv(plugin, Millis(900)).await.unwrap(), 0);
    }
    // What is set again is in use.
    tx.set_plugin_kv(gone, "again", b"w").await.unwrap();
    assert_eq!(tx.keep_plugin_kv("back").await.unwrap(), 2);
    assert_eq!(tx.keep_plugin_kv("back").await.unwrap(), 0);
    assert_eq!(tx.prune_plugin_kv(Millis(99)).await.unwrap(), 0);
    assert_eq!(tx.prune_plugin_kv(Millis(100)).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(db.plugin_kv(gone, "k").await.unwrap(), None);
    assert!(db.plugin_kv(gone, "again").await.unwrap().is_some());
    assert!(db.plugin_kv(back, "k").await.unwrap().is_some());
}
