//! What is refused before it runs, and with which words.

use host_domain::plugin::{Grants, Limits, PluginKind};
use host_runtime::{CompileMode, Digest, PluginHost, RuntimeConfig};
use serde_json::json;

use super::support::{component, guest, host, http_grant, services, spec};

/// A host without a compiler: whatever it refuses with another error was refused before it was compiled.
fn host_without_compiler() -> (PluginHost, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let compile = CompileMode::Child {
        exe: "/bin/false".into(),
        args: vec![],
    };
    let host = PluginHost::new(
        RuntimeConfig::new(dir.path().to_owned(), compile),
        services(),
    );
    (host.unwrap(), dir)
}

fn granted(target: &str) -> Grants {
    Grants {
        http: vec![http_grant(target, &[])],
        ..Grants::default()
    }
}

#[tokio::test]
async fn first_party_components_say_what_they_are() {
    let host = host();
    let webhook = json!({"url": "https://hooks.example/x"});
    let table = [
        ("evm", PluginKind::Collector, json!({}), granted("node:rpc")),
        ("host", PluginKind::Collector, json!({}), Grants::default()),
        (
            "progress",
            PluginKind::HealthPolicy,
            json!({}),
            Grants::default(),
        ),
        (
            "webhook",
            PluginKind::Notifier,
            webhook,
            granted("https://hooks.example"),
        ),
    ];
    for (name, kind, config, grants) in table {
        let bytes = component(name);
        let digest = Digest::of(&bytes);
        let mut spec = spec(kind, config);
        spec.grants = grants;
        spec.digest = Some(digest);
        let plugin = host
            .load(bytes, spec)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let said = plugin.description();
        assert_eq!(
            (said.name.as_str(), said.kind, plugin.digest()),
            (name, kind, digest)
        );
        assert!(!said.summary.is_empty() && !said.version.is_empty());
        assert_eq!(
            said.emits.is_empty(),
            kind != PluginKind::Collector,
            "{name}"
        );
        assert_eq!(
            said.reads.is_empty(),
            kind != PluginKind::HealthPolicy,
            "{name}"
        );
    }
}

#[tokio::test]
async fn an_import_outside_the_world_is_refused_before_it_is_compiled() {
    let (host, _dir) = host_without_compiler();
    let mut policy = spec(PluginKind::HealthPolicy, json!({}));
    policy.grants = granted("http://192.0.2.1");
    let refused = host.load(guest("http-policy"), policy).await.unwrap_err();
    assert_eq!(refused.code(), "plugin_forbidden_import");
    assert!(
        refused.to_string().contains("`bellwether:host/"),
        "{refused}"
    );

    let wasi = r#"(component (import "wasi:filesystem/preopens@0.2.0" (instance (export "get-directories" (func)))))"#;
    let wasi = wat::parse_str(wasi).unwrap();
    let refused = host
        .load(wasi, spec(PluginKind::Collector, json!({})))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "plugin_forbidden_import");
    assert!(
        refused.to_string().contains("wasi:filesystem/preopens"),
        "{refused}"
    );
}

#[tokio::test]
async fn size_digest_and_grants_are_checked_before_it_is_compiled() {
    let (host, _dir) = host_without_compiler();
    let load = async |bytes: Vec<u8>, change: fn(&mut host_runtime::LoadSpec)| {
        let mut spec = spec(PluginKind::Collector, json!({"act": "behave"}));
        spec.grants = granted("node:rpc");
        change(&mut spec);
        host.load(bytes, spec).await.unwrap_err()
    };
    let bytes = || guest("hostile");
    assert_eq!(
        load(vec![0; 5 << 20], |_| {}).await.code(),
        "plugin_too_large"
    );
    assert_eq!(
        load(b"no component".to_vec(), |_| {}).await.code(),
        "plugin_not_a_component"
    );
    let other = load(bytes(), |spec| spec.digest = Some(Digest::of(b"other"))).await;
    assert_eq!(other.code(), "plugin_digest_mismatch");
    assert!(
        other
            .to_string()
            .contains(&Digest::of(b"other").to_string()),
        "{other}"
    );
    let ungranted = load(bytes(), |spec| spec.grants = Grants::default()).await;
    assert_eq!(
        ungranted.to_string().split(',').next(),
        Some("the plugin needs `http`")
    );
    let bad_grant = load(bytes(), |spec| spec.grants = granted("ftp://x.example")).await;
    assert_eq!(bad_grant.code(), "plugin_bad_grant");
    let greedy = load(bytes(), |spec| {
        spec.limits = Limits {
            memory_mib: 4096,
            ..Limits::default()
        }
    });
    assert_eq!(greedy.await.code(), "plugin_bad_limit");
    assert_eq!(
        load(bytes(), |_| {}).await.code(),
        "plugin_compile",
        "nothing else was wrong"
    );
}

#[tokio::test]
async fn a_component_of_another_kind_is_refused() {
    let refused = host()
        .load(
            component("progress"),
            spec(PluginKind::Collector, json!({})),
        )
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), "plugin_wrong_world");
    assert!(refused.to_string().contains("collector"), "{refused}");
}

#[tokio::test]
async fn a_configuration_is_held_against_the_plugins_own_schema() {
    let host = host();
    let text = async |config| {
        let spec = spec(PluginKind::HealthPolicy, config);
        host.load(component("progress"), spec)
            .await
            .unwrap_err()
            .to_string()
    };
    let small = text(json!({"stalled_after_s": 0})).await;
    assert!(small.contains("at `/stalled_after_s`"), "{small}");
    let unknown = text(json!({"stalled_afters": 1})).await;
    assert!(unknown.contains("stalled_afters"), "{unknown}");
    // What a schema can't say, the plugin says itself, and it is told in the same way.
    let crossed = text(json!({"degraded_lag_blocks": 10, "critical_lag_blocks": 5})).await;
    assert!(crossed.contains("at `/critical_lag_blocks`"), "{crossed}");
}

#[tokio::test]
async fn a_policy_that_breaks_on_an_empty_row_is_never_used() {
    let host = host();
    let table = [
        ("loop", "plugin_out_of_time"),
        ("trap", "plugin_trap"),
        ("memory", "plugin_out_of_memory"),
        ("rows_missing", "plugin_bad_answer"),
        ("rows_extra", "plugin_bad_answer"),
        ("fail", "plugin_failed"),
        ("nonsense", "plugin_bad_config"),
    ];
    for (act, code) in table {
        let spec = spec(PluginKind::HealthPolicy, json!({"act": act}));
        let refused = host.load(guest("hostile-policy"), spec).await.unwrap_err();
        assert_eq!(refused.code(), code, "{act}: {refused}");
    }
}
