//! kill -9 of the process that runs the engine, at several points, and what the next process makes of it.
//!
//! The victim is this test binary itself, told by an environment variable which file to work on.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use host_engine::duroxide::{DuroxideEngine, DuroxideOptions, EngineLock};
use host_engine::temporal::TemporalEngine;
use host_workflows::{
    Activities, Activity, ActivityError, Engine, Failure, Flow, Outcome, Retry, Workflow,
    Workflows, start,
};
use tempfile::TempDir;

use super::fixtures::QUICK;
use crate::support::temporal::{Temporal, quick};

const FOLDER: &str = "BELLWETHER_TEST_ENGINE_FOLDER";
const TEMPORAL: &str = "BELLWETHER_TEST_TEMPORAL";
const NAMESPACE: &str = "BELLWETHER_TEST_TEMPORAL_NAMESPACE";
const STEPS: u32 = 24;

/// Writes its number down, once per key: the effect that must not happen twice.
#[derive(Clone, Copy)]
struct Write;

impl Activity for Write {
    const NAME: &'static str = "write";
    const RETRY: Retry = QUICK;
    type Input = u32;
    type Output = u32;
}

struct Climb;

impl Workflow for Climb {
    const KIND: &'static str = "climb";
    const VERSION: &'static str = "1.0.0";
    const ACTIVITIES: &'static [&'static str] = &[Write::NAME];
    type Input = u32;
    type Output = u32;

    async fn run(flow: Flow, steps: u32) -> Result<u32, Failure> {
        let mut sum = 0;
        for step in 1..=steps {
            let told = flow.activity(Write, &step).await;
            sum += told.map_err(|error| error.at("climb"))?;
        }
        Ok(sum)
    }
}

/// What the victim does to the world.
fn activities(folder: &Path) -> Activities {
    let log = folder.join("log");
    let mut activities = Activities::default();
    activities.on(Write, move |ctx, step| {
        let log = log.clone();
        async move {
            let line = format!("{} {step}\n", ctx.key());
            let written = fs::read_to_string(&log).unwrap_or_default();
            if !written.contains(&line) {
                append(&log, &line)
                    .map_err(|error| ActivityError::retryable("disk", error.to_string()))?;
            }
            // Long enough for a kill to fall between the effect and its record.
            tokio::time::sleep(Duration::from_millis(15)).await;
            Ok(step)
        }
    });
    activities
}

/// The life of the victim: it takes the workflow up wherever it stands, and leaves the result behind.
async fn live(folder: &Path, temporal: Option<url::Url>) {
    let (workflows, activities) = (Workflows::default().with::<Climb>(), activities(folder));
    let second = Duration::from_secs(1);
    let sum = if let Some(url) = temporal {
        let namespace = std::env::var(NAMESPACE).unwrap();
        let engine = TemporalEngine::start(quick(url, &namespace), workflows, activities);
        let engine = engine.await.unwrap();
        let sum = climb(&engine).await;
        engine.shutdown(second).await;
        sum
    } else {
        let lock = EngineLock::take(&folder.join("engine.db")).unwrap();
        let options = DuroxideOptions::default();
        let engine = DuroxideEngine::start_locked(lock, workflows, activities, options);
        let engine = engine.await.unwrap();
        let sum = climb(&engine).await;
        engine.shutdown(second).await;
        sum
    };
    fs::write(folder.join("sum"), sum).unwrap();
}

async fn climb(engine: &dyn Engine) -> String {
    start::<Climb>(engine, "climb", &STEPS).await.unwrap();
    let outcome = engine.result("climb", Duration::from_mins(2)).await;
    let Ok(Outcome::Completed(sum)) = outcome else {
        panic!("{outcome:?}")
    };
    sum
}

fn append(log: &Path, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(log)?;
    file.write_all(line.as_bytes())
}

fn check_climbed(folder: &Path) {
    let sum = fs::read_to_string(folder.join("sum")).unwrap();
    assert_eq!(sum, (1..=STEPS).sum::<u32>().to_string());
    let expected: Vec<String> = (1..=STEPS)
        .map(|step| match step {
            1 => "climb/write 1".to_owned(),
            _ => format!("climb/write#{step} {step}"),
        })
        .collect();
    let log = fs::read_to_string(folder.join("log")).unwrap();
    assert_eq!(
        log.lines().collect::<Vec<_>>(),
        expected,
        "each step once, in order"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_nobody_kills_climbs_too() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        // This process is the victim.
        let temporal = std::env::var(TEMPORAL).ok().map(|url| url.parse().unwrap());
        return live(&PathBuf::from(folder), temporal).await;
    }
    let folder = TempDir::new().unwrap();
    live(folder.path(), None).await;
    check_climbed(folder.path());
}

fn spawn(folder: &Path, temporal: Option<&Temporal>) -> Child {
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim
        .args([
            "--exact",
            "workflow::crash::a_host_that_nobody_kills_climbs_too",
            "--nocapture",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::null());
    if let Some(server) = temporal {
        victim.env(TEMPORAL, server.url().as_str());
        victim.env(NAMESPACE, server.namespace());
    }
    victim.spawn().unwrap()
}

fn n_lines(log: &Path) -> usize {
    fs::read_to_string(log).unwrap_or_default().lines().count()
}

/// Kills the host again and again, and lets the last one finish.
async fn survives_kills(temporal: Option<&Temporal>) {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    for kill_at in [1, 6, 13, 20] {
        let mut victim = spawn(folder.path(), temporal);
        let reached = async {
            while n_lines(&log) < kill_at {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(40), reached).await;
        // `kill` is SIGKILL on Unix.
        victim.kill().unwrap();
        victim.wait().unwrap();
        assert!(
            in_time.is_ok(),
            "stood at {} instead of {kill_at}",
            n_lines(&log)
        );
        assert!(
            !folder.path().join("sum").exists(),
            "killed too late to prove anything"
        );
    }
    let mut last = spawn(folder.path(), temporal);
    let ended = async {
        loop {
            if let Some(status) = last.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let status = tokio::time::timeout(Duration::from_mins(1), ended).await;
    let status = status.unwrap_or_else(|_| panic!("stood at {}", n_lines(&log)));
    assert!(status.success());
    check_climbed(folder.path());
}

#[tokio::test]
async fn a_killed_host_goes_on_where_it_stood() {
    survives_kills(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_host_goes_on_where_it_stood_by_temporal() {
    let server = Temporal::shared().await;
    survives_kills(Some(&server)).await;
}
