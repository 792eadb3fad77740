//! The suite on a real Temporal server, and what is special about an engine that several hosts share.

use std::sync::Arc;
use std::time::Duration;

use host_engine::TemporalConfig;
use host_engine::temporal::{StartError, TemporalEngine, TemporalOptions};
use host_workflows::{Engine, Outcome, Started, Workflows, start};

use super::fixtures::{
    Bed, Behaviour, Versioned, Walk, WalkInput, World, activities, wait_for, workflows,
};
use super::suite;
use crate::support::exhaustive::Extent;
use crate::support::temporal::Temporal;
use crate::support::tls::{Authority, TlsFront};
use crate::support::wait::eventually;

/// An engine in a namespace of its own.
struct Host {
    bed: Bed,
    engine: Arc<TemporalEngine>,
    server: Temporal,
}

async fn open(options: TemporalOptions, world: &Arc<World>) -> Result<TemporalEngine, StartError> {
    TemporalEngine::start(options, workflows(), activities(world)).await
}

async fn begin() -> Host {
    begin_on(Temporal::shared().await).await
}

async fn begin_on(server: Temporal) -> Host {
    let world = Arc::new(World::default());
    let engine = Arc::new(open(server.options(), &world).await.unwrap());
    Host {
        bed: Bed {
            engine: engine.clone(),
            world,
        },
        engine,
        server,
    }
}

macro_rules! conformance {
    ($($name:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let started = begin().await;
            suite::$name(&started.bed).await;
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
async fn a_running_workflow_keeps_the_version_of_its_code() {
    let (server, world) = (Temporal::start().await, Arc::new(World::default()));
    let open = |workflows| TemporalEngine::start(server.options(), workflows, activities(&world));
    let old = Workflows::default().with::<Versioned<1>>();
    let first = open(old.clone()).await.unwrap();
    start::<Versioned<1>>(&first, "old", &()).await.unwrap();
    first.shutdown(Duration::from_secs(1)).await;
    let second = open(old.with::<Versioned<2>>()).await.unwrap();
    suite::keeps_versions(&second).await;
    second.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carries_many_workflows() {
    let started = begin().await;
    suite::carries_many(&started.bed, Extent::of_this_run().amount(300, 2_000)).await;
    let queue = started.server.options().task_queue;
    // What it counts is so within a moment.
    eventually("nothing waits", Duration::from_secs(30), async || {
        (started.server.backlog(&queue) == 0).then_some(())
    })
    .await;
    started.engine.shutdown(Duration::from_secs(1)).await;
}

/// kill -9 of the server while an activity runs, and while messages wait: nothing is lost, nothing is done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_costs_nothing_but_time() {
    let mut started = begin_on(Temporal::start().await).await;
    let steps = ["a", "b", "c"].map(|name| (name, Behaviour::UntilReleased));
    start::<Walk>(&*started.engine, "survivor", &WalkInput::new(&steps))
        .await
        .unwrap();
    for (n, name) in ["a", "b", "c"].iter().enumerate() {
        let began = format!("{name} began");
        wait_for("the step", &started.bed.world, |log| {
            log.len() == 2 * n + 1 && log.last() == Some(&began)
        })
        .await;
        started.server.kill();
        // The step ends while nobody hears of it.
        started.bed.world.release();
        let ended = format!("{name} ended");
        wait_for("its end", &started.bed.world, |log| {
            log.last() == Some(&ended)
        })
        .await;
        started.server.start_again().await;
    }
    let outcome = started
        .engine
        .result("survivor", Duration::from_mins(1))
        .await;
    assert!(matches!(outcome, Ok(Outcome::Completed(_))), "{outcome:?}");
    let log = started.bed.world.log();
    let expected: Vec<String> = ["a", "b", "c"]
        .iter()
        .flat_map(|name| [format!("{name} began"), format!("{name} ended")])
        .collect();
    assert_eq!(log, expected, "each step once");
    let exists = start::<Walk>(&*started.engine, "survivor", &WalkInput::new(&steps)).await;
    assert_eq!(exists, Ok(Started::Exists));
    started.engine.shutdown(Duration::from_secs(1)).await;
}

/// Two hosts share the work; what one was at when it ended, the other goes on with at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_host_goes_on_with_what_one_handed_back() {
    let started = begin().await;
    let steps = [("a", Behaviour::UntilCancelled), ("b", Behaviour::Succeed)];
    start::<Walk>(&*started.engine, "handed", &WalkInput::new(&steps))
        .await
        .unwrap();
    wait_for("the activity", &started.bed.world, |log| log == ["a began"]).await;
    let other = open(started.server.options(), &started.bed.world)
        .await
        .unwrap();
    started.engine.shutdown(Duration::ZERO).await;
    let is_again = |log: &[String]| log == ["a began", "a began"];
    wait_for("the second run", &started.bed.world, is_again).await;
    other.cancel("handed", "enough").await.unwrap();
    let outcome = other.result("handed", Duration::from_secs(30)).await;
    assert!(matches!(outcome, Ok(Outcome::Failed(failure)) if failure.code == "cancelled"));
    assert_eq!(
        started.bed.world.log(),
        ["a began", "a began", "a ended", "undo a"]
    );
    other.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_made_only_when_that_is_wanted() {
    let server = Temporal::start().await;
    let world = Arc::new(World::default());
    let mut options = server.options();
    options.namespace = "fleet".to_owned();
    let refused = open(options.clone(), &world).await.err().unwrap();
    assert!(
        matches!(refused, StartError::NoNamespace { .. }),
        "{refused}"
    );
    assert!(
        refused
            .to_string()
            .contains("workflows.temporal.create_namespace"),
        "{refused}"
    );
    options.create_namespace = true;
    let engine = open(options, &world).await.unwrap();
    let input = WalkInput::new(&[("a", Behaviour::Succeed)]);
    start::<Walk>(&engine, "first", &input).await.unwrap();
    let outcome = engine.result("first", Duration::from_secs(30)).await;
    assert!(matches!(outcome, Ok(Outcome::Completed(_))), "{outcome:?}");
    engine.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_temporal_that_is_away_and_a_missing_activity_are_said() {
    let server = Temporal::start().await;
    let world = Arc::new(World::default());
    let lacking = TemporalEngine::start(server.options(), Workflows::all(), activities(&world));
    let refused = lacking.await.err().unwrap();
    assert!(
        matches!(refused, StartError::MissingActivity { .. }),
        "{refused}"
    );
    let options = server.options();
    drop(server);
    let refused = open(options, &world).await.err().unwrap();
    assert!(matches!(refused, StartError::Away { .. }), "{refused}");
    assert!(
        refused.to_string().contains("`workflows.temporal.url`"),
        "{refused}"
    );
}

/// The settings of a host that reaches a server by a front which wants its certificate.
async fn secured(server: &Temporal, authority: &Authority) -> TemporalConfig {
    let url = server.url();
    let to = format!("127.0.0.1:{}", url.port().unwrap());
    let own = authority.issue("temporal.internal");
    let front = TlsFront::to(&to, own, authority).await;
    let (certificate, key) = authority.issue("host.internal");
    TemporalConfig {
        url: Some(format!("https://{}", front.address).parse().unwrap()),
        ca_file: Some(authority.ca_file()),
        client_cert_file: Some(certificate),
        client_key_file: Some(key),
        server_name: Some("temporal.internal".to_owned()),
        namespace: server.namespace().to_owned(),
        ..TemporalConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_ends_over_mutual_tls_and_each_mistake_names_its_setting() {
    let server = Temporal::shared().await;
    let authority = Authority::new();
    let right = secured(&server, &authority).await;
    let world = Arc::new(World::default());
    let engine = open(right.options().unwrap(), &world).await.unwrap();
    let steps = [("a", Behaviour::Succeed), ("b", Behaviour::Succeed)];
    start::<Walk>(&engine, "secured", &WalkInput::new(&steps))
        .await
        .unwrap();
    let outcome = engine.result("secured", Duration::from_secs(30)).await;
    assert!(matches!(outcome, Ok(Outcome::Completed(_))), "{outcome:?}");
    engine.shutdown(Duration::from_secs(1)).await;

    let stranger = Authority::new();
    let (certificate, key) = stranger.issue("host.internal");
    let mistakes = [
        (
            "ca_file",
            TemporalConfig {
                ca_file: Some(stranger.ca_file()),
                ..right.clone()
            },
        ),
        (
            "server_name",
            TemporalConfig {
                server_name: None,
                ..right.clone()
            },
        ),
        (
            "client_cert_file",
            TemporalConfig {
                client_cert_file: None,
                client_key_file: None,
                ..right.clone()
            },
        ),
        (
            "client_cert_file",
            TemporalConfig {
                client_cert_file: Some(certificate),
                client_key_file: Some(key),
                ..right.clone()
            },
        ),
    ];
    for (setting, config) in mistakes {
        let refused = open(config.options().unwrap(), &world).await.err().unwrap();
        let named = format!("`workflows.temporal.{setting}`");
        assert!(
            refused.to_string().contains(&named),
            "{refused}: {refused:?}"
        );
    }
}
