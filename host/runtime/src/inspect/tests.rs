//! Checks the imports of handwritten components against worlds and grants.

use host_domain::plugin::{Capability, Grants, HttpGrant, PluginKind};

use super::{check_imports, inspect};
use crate::error::PluginError;

fn check(wat: &str, kind: PluginKind, grants: &Grants) -> Result<(), PluginError> {
    check_imports(
        &inspect(&wat::parse_str(wat).unwrap()).unwrap(),
        kind,
        grants,
    )
}

fn code(wat: &str, kind: PluginKind) -> &'static str {
    check(wat, kind, &Grants::default()).map_or_else(|error| error.code(), |()| "ok")
}

const LOG: &str = r#"(component
    (import "bellwether:host/log@0.1.0" (instance (export "write" (func (param "message" string))))))"#;
const KV: &str = r#"(component
    (import "bellwether:host/kv@0.1.0" (instance (export "get" (func (param "key" string))))))"#;
const HTTP_WITH_SECRET_TYPE: &str = r#"(component
    (import "bellwether:host/secrets@0.1.0" (instance $secrets (export "secret" (type (sub resource)))))
    (alias export $secrets "secret" (type $secret))
    (import "bellwether:host/http@0.1.0" (instance
        (alias outer 1 $secret (type $s))
        (export "secret" (type (eq $s)))
        (export "send" (func (param "secret" (borrow $s)))))))"#;
const SECRETS: &str = r#"(component
    (import "bellwether:host/secrets@0.1.0" (instance
        (export "secret" (type $s (sub resource)))
        (export "get" (func (param "name" string) (result (own $s)))))))"#;

#[test]
fn a_world_has_what_it_has_and_nothing_more() {
    for kind in [
        PluginKind::Collector,
        PluginKind::HealthPolicy,
        PluginKind::Notifier,
    ] {
        assert_eq!(code("(component)", kind), "ok");
        assert_eq!(code(LOG, kind), "ok");
    }
    assert_eq!(
        code(KV, PluginKind::HealthPolicy),
        "plugin_forbidden_import"
    );
    for foreign in [
        "wasi:filesystem/types@0.2.0",
        "wasi:clocks/monotonic-clock@0.2.0",
        "bellwether:host/log@0.2.0",
        "bellwether:host/files@0.1.0",
        "another:host/log@0.1.0",
        "env",
    ] {
        let wat = format!(r#"(component (import "{foreign}" (instance (export "f" (func)))))"#);
        assert_eq!(
            code(&wat, PluginKind::Collector),
            "plugin_forbidden_import",
            "{foreign}"
        );
    }
}

#[test]
fn what_is_imported_must_be_granted() {
    assert_eq!(code(KV, PluginKind::Collector), "plugin_missing_grant");
    let granted = Grants {
        kv: true,
        ..Grants::default()
    };
    assert!(check(KV, PluginKind::Collector, &granted).is_ok());
    assert_eq!(
        code(SECRETS, PluginKind::Notifier),
        "ok",
        "secrets are denied by name, at each use"
    );
}

#[test]
fn the_type_of_a_secret_gives_nothing_away() {
    let http = HttpGrant {
        target: "node:rpc".into(),
        addresses: vec![],
    };
    let granted = Grants {
        http: vec![http],
        ..Grants::default()
    };
    assert!(check(HTTP_WITH_SECRET_TYPE, PluginKind::Collector, &granted).is_ok());
    assert_eq!(
        code(HTTP_WITH_SECRET_TYPE, PluginKind::Collector),
        "plugin_missing_grant"
    );
    let capabilities = |wat: &str| inspect(&wat::parse_str(wat).unwrap()).unwrap().capabilities;
    assert!(!capabilities(HTTP_WITH_SECRET_TYPE).contains(&Capability::Secrets));
    assert!(capabilities(SECRETS).contains(&Capability::Secrets));
}

#[test]
fn what_is_no_component_is_told_apart() {
    let module = wat::parse_str("(module)").unwrap();
    let threads = wat::parse_str("(component (core module (memory 1 1 shared)))").unwrap();
    let memory64 = wat::parse_str("(component (core module (memory i64 1)))").unwrap();
    let invalid =
        wat::parse_str("(component (core module (func (result i32) i64.const 1)))").unwrap();
    for bytes in [
        b"".as_slice(),
        b"\0asm",
        b"#!/bin/sh",
        &module,
        &threads,
        &memory64,
        &invalid,
    ] {
        assert_eq!(inspect(bytes).unwrap_err().code(), "plugin_not_a_component");
    }
}

#[test]
fn imports_of_what_is_nested_are_not_the_components_own() {
    let nested = r#"(component (component (import "wasi:anything/goes@1.0.0" (instance))))"#;
    assert_eq!(code(nested, PluginKind::HealthPolicy), "ok");
    let found = inspect(&wat::parse_str(LOG).unwrap()).unwrap();
    assert_eq!(found.imports, ["bellwether:host/log@0.1.0"]);
}
