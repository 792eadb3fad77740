//! Compiling in a process of its own: the way of the binaries, with a binary that can nothing else.

use std::path::Path;

use host_domain::plugin::PluginKind;
use host_runtime::{CompileMode, PluginHost, RuntimeConfig, Sheet};
use serde_json::json;

use super::support::{NOW, component, services, spec};

fn host_in(dir: &Path) -> PluginHost {
    let compile = CompileMode::Child {
        exe: env!("CARGO_BIN_EXE_compile-component").into(),
        args: vec![],
    };
    PluginHost::new(RuntimeConfig::new(dir.to_owned(), compile), services()).unwrap()
}

#[tokio::test]
async fn a_component_is_compiled_by_a_child_and_runs_here() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(PluginKind::HealthPolicy, json!({}));
    let plugin = host_in(dir.path())
        .load(component("progress"), spec)
        .await
        .unwrap();
    let names = plugin.description().reads.clone();
    let rows = vec![vec![host_domain::observation::Scalar::Absent; names.len()]; 3];
    assert_eq!(
        plugin
            .evaluate(&Sheet {
                now: NOW,
                names,
                rows
            })
            .await
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn what_the_compiler_refuses_reaches_whoever_stages_it() {
    let dir = tempfile::tempdir().unwrap();
    // Valid, but it wants more tables than the engine gives to a component.
    let tables = "(table 1 funcref)".repeat(200);
    let component = wat::parse_str(format!("(component (core module {tables}))")).unwrap();
    let refused = host_in(dir.path())
        .load(component, spec(PluginKind::Collector, json!({})))
        .await;
    let refused = refused.unwrap_err();
    assert!(
        ["plugin_compile", "plugin_not_a_component"].contains(&refused.code()),
        "{refused:?}"
    );
    let left = std::fs::read_dir(dir.path().join("compiled"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "nothing half-made stays in the cache");
}
