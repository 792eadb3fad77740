//! Measures the cost of the sandbox: the `progress` policy as a component, compared with the same rule as native
//! code.
//!
//! A call of the component includes a new instance, the configuration, the sheet in both directions, and the drop.
//! `cargo bench --bench policy` needs the components; an error names the command that builds them.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use host_domain::observation::Scalar;
use host_domain::plugin::{Grants, Limits, PluginKind};
use host_domain::time::{Clock, Millis};
use host_runtime::{
    CompileMode, LoadSpec, MemoryKv, NoSecrets, Plugin, PluginHost, RuntimeConfig, Services, Sheet,
};
use progress_rule::{COLUMNS, Facts, Rule};
use tokio::runtime::Runtime;

/// Nodes per evaluation.
const SNAPSHOTS: usize = 1_000;

/// Stands still.
struct Standstill;

impl Clock for Standstill {
    fn now(&self) -> Millis {
        Millis(1_800_000_000_000)
    }
}

fn component() -> Vec<u8> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain-configs/components");
    let dir = std::env::var_os("BELLWETHER_COMPONENTS").map_or(default, PathBuf::from);
    let path = dir.join("progress.wasm");
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "this benchmark can't read {} ({error}); run `cargo run -- plugin build plugins --out chain-configs/components` first",
            path.display()
        )
    })
}

fn load(runtime: &Runtime, cache_dir: &Path) -> Plugin {
    let services = Services {
        clock: Arc::new(Standstill),
        secrets: Arc::new(NoSecrets),
        kv: Arc::new(MemoryKv::default()),
    };
    let config = RuntimeConfig::new(cache_dir.to_owned(), CompileMode::InProcess);
    let host = PluginHost::new(config, services).expect("the plugin host starts");
    let spec = LoadSpec {
        name: "progress".into(),
        kind: PluginKind::HealthPolicy,
        digest: None,
        config: serde_json::json!({}),
        grants: Grants::default(),
        limits: Limits {
            cpu: Duration::from_secs(1),
            ..Limits::of(PluginKind::HealthPolicy)
        },
    };
    runtime
        .block_on(host.load(component(), spec))
        .expect("the component loads")
}

/// A sheet in which every tenth node is stalled.
fn sheet(n_rows: usize) -> Sheet {
    let row = |index: usize| {
        let unchanged_s = if index.is_multiple_of(10) { 90.0 } else { 2.0 };
        vec![
            Scalar::Int(1_000_000),
            Scalar::Real(unchanged_s),
            Scalar::Real(2.0),
            Scalar::Int(1_000_001),
            Scalar::Real(3.0),
            Scalar::Flag(false),
            Scalar::Int(25),
        ]
    };
    Sheet {
        now: Standstill.now(),
        names: COLUMNS.iter().map(ToString::to_string).collect(),
        rows: (0..n_rows).map(row).collect(),
    }
}

/// Evaluates a row like the component, without the sandbox.
fn judge_natively(rule: &Rule, row: &[Scalar]) -> progress_rule::Opinion {
    let number = |at: usize| row.get(at).and_then(Scalar::number);
    rule.judge(&Facts {
        height: number(0),
        unchanged_s: number(1),
        age_s: number(2),
        siblings: number(3),
        block_age_s: number(4),
        syncing: match row.get(5) {
            Some(Scalar::Flag(flag)) => Some(*flag),
            _ => None,
        },
        peers: number(6),
    })
}

fn policy(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let cache = tempfile::tempdir().expect("a folder for compiled components");
    let plugin = load(&runtime, cache.path());
    let rule = Rule::default();

    let (none, one, many) = (sheet(0), sheet(1), sheet(SNAPSHOTS));
    let mut group = criterion.benchmark_group("policy");
    group.bench_function("component/instantiate+call+drop", |bencher| {
        bencher.iter(|| runtime.block_on(plugin.evaluate(&none)));
    });
    group.bench_function("component/1", |bencher| {
        bencher.iter(|| runtime.block_on(plugin.evaluate(&one)));
    });
    group.throughput(Throughput::Elements(SNAPSHOTS as u64));
    group.bench_function("component/1000", |bencher| {
        bencher.iter(|| {
            let verdicts = runtime.block_on(plugin.evaluate(&many)).expect("verdicts");
            assert_eq!(verdicts.len(), SNAPSHOTS);
        });
    });
    group.bench_function("native/1000", |bencher| {
        bencher.iter(|| {
            many.rows
                .iter()
                .map(|row| judge_natively(&rule, black_box(row)))
                .collect::<Vec<_>>()
        });
    });
    group.finish();
}

criterion_group!(benches, policy);
criterion_main!(benches);
