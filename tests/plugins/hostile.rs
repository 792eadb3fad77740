//! Guests that misbehave: each is stopped within its limit, with the error that names it, and the others go on.

use std::future::Future;
use std::time::{Duration, Instant};

use host_domain::observation::Observation;
use host_runtime::{CallError, NodeContext, Plugin, TimeKind};
use serde_json::{Value, json};

use super::support::{guest, host, hostile, http_grant, node, spec, well_behaved};

/// Lets the guest misbehave beside one that behaves, on one thread, and says how it ended. The other has to come to its end while
/// the first is still at it or soon after, whatever the first does.
async fn stopped(act: Value) -> (CallError, Duration) {
    let host = host();
    let (bad, good) = (hostile(&host, act.clone()).await, well_behaved(&host).await);
    let (error, others) = tokio::join!(timed(collect(&bad)), timed(collect(&good)));
    let (Err(error), took) = error else {
        panic!("{act} was not stopped")
    };
    assert_eq!(
        others.0.unwrap().len(),
        1,
        "{act}: the other plugin did not answer"
    );
    assert!(
        collect(&good).await.is_ok(),
        "{act}: nothing is left behind for the next call"
    );
    let stats = bad.stats();
    assert_eq!(
        (stats.calls, stats.failures),
        (2, 1),
        "{act}: describe and one collect"
    );
    assert!(stats.last_error.is_some());
    assert!(error.is_fault(), "{act}: a breaker has to count it");
    (error, took)
}

async fn collect(plugin: &Plugin) -> Result<Vec<Observation>, CallError> {
    plugin.collect(node(), NodeContext::default()).await
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time that a test waits is what it measures"
)]
async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    (future.await, started.elapsed())
}

#[tokio::test]
async fn an_endless_loop_ends_with_its_computing_time() {
    let (error, took) = stopped(json!({"act": "loop"})).await;
    assert!(
        matches!(
            error,
            CallError::OutOfTime {
                kind: TimeKind::Cpu,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        took >= Duration::from_millis(300) && took < Duration::from_secs(5),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_memory_bomb_ends_at_its_memory() {
    let (error, _) = stopped(json!({"act": "memory"})).await;
    assert_eq!(error, CallError::OutOfMemory { limit_mib: 16 });
}

#[tokio::test]
async fn a_huge_answer_is_not_taken() {
    let (error, _) = stopped(json!({"act": "answer", "bytes": 6 << 20})).await;
    assert_eq!(error, CallError::AnswerTooLarge { limit_kib: 4096 });
    let (error, _) = stopped(json!({"act": "answer", "bytes": 64 << 10})).await;
    assert!(
        matches!(error, CallError::BadAnswer { .. }),
        "too much for one text: {error:?}"
    );
}

#[tokio::test]
async fn a_deep_recursion_ends_with_its_stack() {
    let (error, _) = stopped(json!({"act": "recurse"})).await;
    assert_eq!(error, CallError::OutOfStack);
}

#[tokio::test]
async fn a_trap_is_told_as_one() {
    let (error, _) = stopped(json!({"act": "trap"})).await;
    assert!(matches!(error, CallError::Trap { .. }), "{error:?}");
}

#[tokio::test]
async fn calls_into_the_host_are_counted() {
    let (error, _) = stopped(json!({"act": "host_calls", "times": 5000})).await;
    assert_eq!(error, CallError::TooManyHostCalls { limit: 1_000 });
}

#[tokio::test]
async fn log_lines_over_the_limit_are_dropped_and_harm_nobody() {
    let plugin = hostile(&host(), json!({"act": "log", "lines": 500})).await;
    assert!(collect(&plugin).await.is_ok());
}

#[tokio::test]
async fn a_target_that_does_not_answer_ends_with_the_time_of_the_call() {
    // A listener that accepts and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut spec = spec(
        host_domain::plugin::PluginKind::Collector,
        json!({"act": "http", "url": "node:rpc"}),
    );
    spec.grants.http = vec![http_grant("node:rpc", &[])];
    spec.limits.wall = Duration::from_millis(500);
    let plugin = host().load(guest("hostile"), spec).await.unwrap();
    let context = super::support::rpc_at(silent.local_addr().unwrap().port());
    let (answer, took) = timed(plugin.collect(node(), context)).await;
    let error = answer.unwrap_err();
    assert!(
        !error.is_fault(),
        "the guest was told in time and said so: {error:?}"
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_wait_for_a_place_and_all_get_theirs() {
    let host = host();
    let good = well_behaved(&host).await;
    let calls = (0..500).map(|_| collect(&good));
    for answer in futures_util::future::join_all(calls).await {
        answer.unwrap();
    }
}
