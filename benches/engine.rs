//! Measures the cost of the workflow port: workflows per second through it, compared with the bare engine.
//!
//! Both run the same workflows with three activities each on their own file, with the same settings, alternately; the
//! medians are compared. The port does more (limits, retries, keys, serialised writes), and must reach 80 % of the
//! speed.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures the time that passes"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::providers::sqlite::SqliteProvider;
use duroxide::runtime::registry::{ActivityRegistry, OrchestrationRegistry};
use duroxide::runtime::{OrchestrationStatus, Runtime, RuntimeOptions};
use duroxide::{ActivityContext as BareActivity, Client, OrchestrationContext};
use futures_util::future::join_all;
use host_engine::duroxide::{DuroxideEngine, DuroxideOptions, EngineLock};
use host_workflows::{
    Activities, Activity, Engine, Failure, Flow, Outcome, Workflow, Workflows, start,
};

/// Workflows per run.
const WORKFLOWS: usize = 300;
/// Runs per side.
const RUNS: usize = 3;
/// Workflows that start concurrently.
const AT_ONCE: usize = 50;
/// The time limit of one workflow.
const END_MAX: Duration = Duration::from_mins(5);

/// An activity that does nothing, so that only the engine is measured.
#[derive(Clone, Copy)]
struct Pass;

impl Activity for Pass {
    const NAME: &'static str = "pass";
    type Input = u32;
    type Output = u32;
}

/// A workflow of three steps.
struct Three;

impl Workflow for Three {
    const KIND: &'static str = "three";
    const VERSION: &'static str = "1.0.0";
    const ACTIVITIES: &'static [&'static str] = &[Pass::NAME];
    type Input = u32;
    type Output = u32;

    async fn run(flow: Flow, mut number: u32) -> Result<u32, Failure> {
        for _ in 0..3 {
            let passed = flow.activity(Pass, &number).await;
            number = passed.map_err(|error| error.at("three"))?;
        }
        Ok(number)
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (mut bare_rates, mut port_rates) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let folder = tempfile::tempdir().expect("a folder for the engines");
        bare_rates.push(runtime.block_on(bare(&folder.path().join("bare.db"))));
        port_rates.push(runtime.block_on(port(&folder.path().join("port.db"))));
    }
    let (bare, port) = (median(bare_rates), median(port_rates));
    println!("baseline: the bare engine       {bare:>8.1} workflows/s");
    println!("through the port                {port:>8.1} workflows/s");
    println!(
        "ratio                           {:>8.2} (at least 0.80)",
        port / bare
    );
}

/// The engine as in its own documentation, with the port's settings.
async fn bare(path: &Path) -> f64 {
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let provider = SqliteProvider::new(&url, None)
        .await
        .expect("an engine file");
    let provider: Arc<dyn duroxide::providers::Provider> = Arc::new(provider);
    let activities = ActivityRegistry::builder()
        .register("pass", |_: BareActivity, number: String| async move {
            Ok(number)
        })
        .build();
    let workflows = OrchestrationRegistry::builder()
        .register(
            "three",
            |ctx: OrchestrationContext, mut number: String| async move {
                for _ in 0..3 {
                    number = ctx.schedule_activity("pass", number).await?;
                }
                Ok(number)
            },
        )
        .build();
    let options = RuntimeOptions {
        orchestration_concurrency: 2,
        worker_concurrency: 16,
        dispatcher_min_poll_interval: Duration::from_millis(50),
        max_attempts: 1_000,
        ..RuntimeOptions::default()
    };
    let runtime =
        Runtime::start_with_options(Arc::clone(&provider), activities, workflows, options);
    let runtime = runtime.await;
    let client = Client::new(provider);
    let began = Instant::now();
    for chunk in ids().chunks(AT_ONCE) {
        let starts = chunk
            .iter()
            .map(|id| client.start_orchestration(id, "three", "1"));
        for started in join_all(starts).await {
            started.expect("the workflow starts");
        }
    }
    for id in ids() {
        let ended = client.wait_for_orchestration(&id, END_MAX).await;
        assert!(
            matches!(ended, Ok(OrchestrationStatus::Completed { .. })),
            "{id}: {ended:?}"
        );
    }
    let rate = rate(began);
    runtime.shutdown(Some(1_000)).await;
    rate
}

async fn port(path: &Path) -> f64 {
    let mut activities = Activities::default();
    activities.on(Pass, |_, number| async move { Ok(number) });
    let workflows = Workflows::default().with::<Three>();
    let options = DuroxideOptions::default();
    let lock = EngineLock::take(path).expect("the lock is free");
    let engine = DuroxideEngine::start_locked(lock, workflows, activities, options);
    let engine = engine.await.expect("an engine");
    let began = Instant::now();
    for chunk in ids().chunks(AT_ONCE) {
        let starts = chunk.iter().map(|id| start::<Three>(&engine, id, &1));
        for started in join_all(starts).await {
            started.expect("the workflow starts");
        }
    }
    for id in ids() {
        let ended = engine.result(&id, END_MAX).await;
        assert!(
            matches!(ended, Ok(Outcome::Completed(_))),
            "{id}: {ended:?}"
        );
    }
    let rate = rate(began);
    engine.shutdown(Duration::from_secs(1)).await;
    rate
}

fn ids() -> Vec<String> {
    (0..WORKFLOWS).map(|n| format!("three-{n:04}")).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred workflows")]
fn rate(began: Instant) -> f64 {
    WORKFLOWS as f64 / began.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
