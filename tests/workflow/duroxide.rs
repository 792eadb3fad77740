//! The suite on duroxide, and what is special about an engine inside the host's process.

use std::sync::Arc;
use std::time::Duration;

use host_domain::time::Millis;
use host_engine::duroxide::{DuroxideEngine, DuroxideOptions, EngineLock, StartError};
use host_workflows::{Engine, Outcome, Started, Workflows, start};
use tempfile::TempDir;

use super::fixtures::{Bed, Behaviour, Versioned, Walk, WalkInput, World, activities, workflows};
use super::suite;
use crate::support::exhaustive::Extent;

/// An engine on a file of its own.
struct Host {
    bed: Bed,
    engine: Arc<DuroxideEngine>,
    folder: TempDir,
}

async fn open(folder: &TempDir, world: &Arc<World>) -> Result<DuroxideEngine, StartError> {
    open_with(folder, world, workflows()).await
}

async fn open_with(
    folder: &TempDir,
    world: &Arc<World>,
    workflows: Workflows,
) -> Result<DuroxideEngine, StartError> {
    let options = DuroxideOptions {
        cancel_poll: Duration::from_millis(50),
        ..DuroxideOptions::default()
    };
    let lock = EngineLock::take(&folder.path().join("engine.db"))?;
    DuroxideEngine::start_locked(lock, workflows, activities(world), options).await
}

async fn begin() -> Host {
    let folder = TempDir::new().unwrap();
    let world = Arc::new(World::default());
    let engine = Arc::new(open(&folder, &world).await.unwrap());
    Host {
        bed: Bed {
            engine: engine.clone(),
            world,
        },
        engine,
        folder,
    }
}

macro_rules! conformance {
    ($($name:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let started = begin().await;
            suite::$name(&started.bed).await;
            assert_eq!(started.engine.troubles(), 0, "no call met a locked database");
            started.engine.shutdown(Duration::from_secs(1)).await;
        }
    )+};
}

conformance!(
    retries,
    undoes,
    fails_at_once,
    gives_up_silent_tries,
    gives_up_long_tries,
    pauses_and_resumes,
    cancels_a_running_activity,
    cancels_a_wait,
    keeps_ids_taken,
    starts_once,
    goes_on_as_new,
    joins_and_has_children,
    refuses_what_it_cannot_take,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carries_many_workflows_without_a_locked_database() {
    let started = begin().await;
    suite::carries_many(&started.bed, Extent::of_this_run().amount(300, 2_000)).await;
    assert_eq!(
        started.engine.troubles(),
        0,
        "no call met a locked database"
    );
    assert_eq!(
        started.engine.queued().await,
        Ok(0),
        "nothing waits in the engine's queues"
    );
    started.engine.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_host_on_the_file_is_refused() {
    let started = begin().await;
    let refused = open(&started.folder, &started.bed.world)
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, StartError::Held { .. }), "{refused}");
    assert!(
        refused.to_string().contains("another host holds"),
        "{refused}"
    );
    started.engine.shutdown(Duration::from_secs(1)).await;
    let next = open(&started.folder, &started.bed.world).await.unwrap();
    next.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_interrupted_by_a_shutdown_goes_on_at_once() {
    let started = begin().await;
    let steps = [("a", Behaviour::UntilCancelled), ("b", Behaviour::Succeed)];
    start::<Walk>(&*started.engine, "interrupted", &WalkInput::new(&steps))
        .await
        .unwrap();
    super::fixtures::wait_for("the activity", &started.bed.world, |log| log == ["a began"]).await;
    started.engine.shutdown(Duration::ZERO).await;

    let next = open(&started.folder, &started.bed.world).await.unwrap();
    let exists = start::<Walk>(&next, "interrupted", &WalkInput::new(&steps)).await;
    assert_eq!(exists, Ok(Started::Exists));
    // Without lifting the locks of the dead this takes longer than a lock lives.
    let is_again = |log: &[String]| log == ["a began", "a began"];
    let again = super::fixtures::wait_for("the second run", &started.bed.world, is_again);
    tokio::time::timeout(Duration::from_secs(4), again)
        .await
        .unwrap();
    next.cancel("interrupted", "enough").await.unwrap();
    let outcome = next
        .result("interrupted", Duration::from_secs(20))
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Failed(failure) if failure.code == "cancelled"));
    next.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_workflow_keeps_the_version_of_its_code() {
    let (folder, world) = (TempDir::new().unwrap(), Arc::new(World::default()));
    let old = Workflows::default().with::<Versioned<1>>();
    let first = open_with(&folder, &world, old.clone()).await.unwrap();
    start::<Versioned<1>>(&first, "old", &()).await.unwrap();
    first.shutdown(Duration::from_secs(1)).await;
    let both = old.with::<Versioned<2>>();
    let second = open_with(&folder, &world, both).await.unwrap();
    suite::keeps_versions(&second).await;
    second.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prune_forgets_only_what_ended_long_ago() {
    let started = begin().await;
    let engine = &started.engine;
    suite::undoes(&started.bed).await;
    let waits = WalkInput::new(&[("a", Behaviour::UntilCancelled)]);
    start::<Walk>(&**engine, "running", &waits).await.unwrap();
    let ended = engine.status("undoes").await.unwrap().unwrap().updated_at;
    let hour = Duration::from_hours(1);
    assert_eq!(
        engine
            .prune(hour, ended.plus(hour).minus(Duration::from_secs(1)))
            .await,
        Ok(0)
    );
    assert!(engine.status("undoes").await.unwrap().is_some());
    assert_eq!(engine.prune(hour, Millis(ended.0 + 3_700_000)).await, Ok(1));
    assert_eq!(engine.status("undoes").await, Ok(None));
    assert!(
        engine.status("running").await.unwrap().is_some(),
        "what runs stays"
    );
    engine.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_workflow_whose_activity_nobody_implements_is_refused() {
    let folder = TempDir::new().unwrap();
    let lock = EngineLock::take(&folder.path().join("engine.db")).unwrap();
    let (workflows, activities) = (Workflows::all(), activities(&Arc::new(World::default())));
    let options = DuroxideOptions::default();
    let started = DuroxideEngine::start_locked(lock, workflows, activities, options).await;
    let refused = started.err().unwrap();
    assert!(
        matches!(refused, StartError::MissingActivity { .. }),
        "{refused}"
    );
}
