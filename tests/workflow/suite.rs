//! What every engine must do, as checks over `dyn Engine`.

use std::time::Duration;

use futures_util::future::join_all;
use host_workflows::{
    Engine, EngineError, Failure, HistoryEntry, Outcome, PageRequest, Started, StatusKind, start,
};
use serde::de::DeserializeOwned;

use super::fixtures::{
    Bed, Behaviour, Fan, Pausing, Reading, ReadingInput, Versioned, Walk, WalkInput, wait_for,
};
use crate::support::wait::eventually;

const WAIT: Duration = Duration::from_secs(30);
const MANY_WAIT: Duration = Duration::from_mins(3);

async fn run_walk(bed: &Bed, id: &str, input: &WalkInput) -> Outcome {
    assert_eq!(
        start::<Walk>(&*bed.engine, id, input).await,
        Ok(Started::Started)
    );
    bed.engine.result(id, WAIT).await.unwrap()
}

fn completed<T: DeserializeOwned>(outcome: &Outcome) -> T {
    match outcome {
        Outcome::Completed(text) => serde_json::from_str(text).unwrap(),
        other => panic!("not completed: {other:?}"),
    }
}

fn failed(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("not failed: {other:?}"),
    }
}

/// A try that fails is repeated, under the same key and with its number; a panic is a failed try.
pub(crate) async fn retries(bed: &Bed) {
    let input = WalkInput::new(&[
        ("a", Behaviour::FailBelowTry(3)),
        ("b", Behaviour::PanicOnce),
    ]);
    let outcome = run_walk(bed, "retries", &input).await;
    assert_eq!(
        completed::<Vec<String>>(&outcome),
        ["retries/act", "retries/act#2"]
    );
    assert_eq!(
        bed.world.log(),
        ["a try 1", "a try 2", "a try 3", "b try 1", "b try 2"]
    );
    let history = bed.engine.history("retries").await.unwrap();
    let tells = |entry: &HistoryEntry| entry.detail.contains("the first try panics");
    assert!(history.iter().any(tells), "what the panic said is kept");
}

/// Tries have an end, and what was done is undone in reverse.
pub(crate) async fn undoes(bed: &Bed) {
    let steps = [
        ("a", Behaviour::Succeed),
        ("b", Behaviour::FailBelowTry(9)),
        ("c", Behaviour::Succeed),
    ];
    let failure = failed(run_walk(bed, "undoes", &WalkInput::new(&steps)).await);
    assert_eq!(
        (failure.code.as_str(), failure.step.as_str()),
        ("not_yet", "b")
    );
    assert_eq!(
        bed.world.log(),
        ["a", "b try 1", "b try 2", "b try 3", "undo b", "undo a"]
    );
}

/// An error that stays is not retried, and its output comes through.
pub(crate) async fn fails_at_once(bed: &Bed) {
    let failure = failed(
        run_walk(
            bed,
            "at-once",
            &WalkInput::new(&[("a", Behaviour::FailForGood)]),
        )
        .await,
    );
    assert_eq!(
        (failure.code.as_str(), failure.output.as_str()),
        ("broken", "last line")
    );
    assert_eq!(bed.world.log(), ["a fails", "undo a"]);
}

/// A try that gives no sign of life is given up; the next one knows the last sign.
pub(crate) async fn gives_up_silent_tries(bed: &Bed) {
    let mut input = WalkInput::new(&[("a", Behaviour::SilentOnce)]);
    input.retry.heartbeat = Some(Duration::from_millis(200));
    completed::<Vec<String>>(&run_walk(bed, "silent", &input).await);
    assert_eq!(
        bed.world.log(),
        ["a try 1 knows None", "a try 2 knows Some(1)"]
    );
}

/// A try that takes too long is given up.
pub(crate) async fn gives_up_long_tries(bed: &Bed) {
    let mut input = WalkInput::new(&[("a", Behaviour::UntilCancelled)]);
    input.retry.per_try = Duration::from_millis(100);
    input.retry.tries = 2;
    let failure = failed(run_walk(bed, "long", &input).await);
    assert_eq!(failure.code, "timed_out");
    assert_eq!(bed.world.log(), ["a began", "a began", "undo a"]);
}

/// Messages pause and resume, and those that came early count.
pub(crate) async fn pauses_and_resumes(bed: &Bed) {
    let engine = &*bed.engine;
    start::<Pausing>(engine, "pausing", &3).await.unwrap();
    for order in ["go", "pause", "go"] {
        engine
            .signal("pausing", "orders", &format!("\"{order}\""))
            .await
            .unwrap();
    }
    wait_for("round 1", &bed.world, |log| log == ["round 1"]).await;
    assert_eq!(
        engine.result("pausing", Duration::from_millis(300)).await,
        Ok(Outcome::Running)
    );
    let status = engine.status("pausing").await.unwrap().unwrap();
    assert_eq!(status.state, StatusKind::Running);
    assert_eq!(
        status.progress.as_deref(),
        Some("\"paused before round 2\"")
    );
    assert_eq!(bed.world.log(), ["round 1"], "it is paused");
    engine.signal("pausing", "resume", "\"now\"").await.unwrap();
    assert_eq!(
        completed::<u32>(&engine.result("pausing", WAIT).await.unwrap()),
        3
    );
    assert_eq!(bed.world.log(), ["round 1", "round 2", "round 3"]);
}

/// `old` was started by a process that knew version 1.0.0 only; this one knows a newer version too.
pub(crate) async fn keeps_versions(engine: &dyn Engine) {
    start::<Versioned<2>>(engine, "new", &()).await.unwrap();
    for (id, version, ended) in [("old", "1.0.0", 1), ("new", "2.0.0", 2)] {
        engine.signal(id, "end", "\"now\"").await.unwrap();
        let outcome = engine.result(id, WAIT).await.unwrap();
        assert_eq!(completed::<u8>(&outcome), ended, "{id}");
        let status = engine.status(id).await.unwrap().unwrap();
        assert_eq!(status.version, version, "{id}");
    }
}

/// A cancel reaches the running activity; undoing begins when that has ended, and is not cancelled itself.
pub(crate) async fn cancels_a_running_activity(bed: &Bed) {
    let steps = [
        ("a", Behaviour::Succeed),
        ("b", Behaviour::UntilCancelled),
        ("c", Behaviour::Succeed),
    ];
    start::<Walk>(&*bed.engine, "cancelled", &WalkInput::new(&steps))
        .await
        .unwrap();
    wait_for("the activity", &bed.world, |log| log == ["a", "b began"]).await;
    bed.engine
        .cancel("cancelled", "nobody wants it")
        .await
        .unwrap();
    let failure = failed(bed.engine.result("cancelled", WAIT).await.unwrap());
    assert_eq!(
        (failure.code.as_str(), failure.step.as_str()),
        ("cancelled", "b")
    );
    assert_eq!(failure.message, "cancelled: nobody wants it");
    assert_eq!(
        bed.world.log(),
        ["a", "b began", "b ended", "undo b", "undo a"]
    );
    let again = bed.engine.cancel("cancelled", "twice").await;
    assert_eq!(
        again,
        Err(EngineError::Ended {
            id: "cancelled".into()
        })
    );
}

/// A cancel wakes a workflow that waits for a message.
pub(crate) async fn cancels_a_wait(bed: &Bed) {
    start::<Pausing>(&*bed.engine, "waiting", &1).await.unwrap();
    bed.engine.cancel("waiting", "too late").await.unwrap();
    assert_eq!(
        failed(bed.engine.result("waiting", WAIT).await.unwrap()).code,
        "cancelled"
    );
}

/// An id is taken for as long as its workflow is known.
pub(crate) async fn keeps_ids_taken(bed: &Bed) {
    let input = WalkInput::new(&[("a", Behaviour::Succeed)]);
    let first = run_walk(bed, "taken", &input).await;
    let other = WalkInput::new(&[("b", Behaviour::Succeed)]);
    assert_eq!(
        start::<Walk>(&*bed.engine, "taken", &other).await,
        Ok(Started::Exists)
    );
    assert_eq!(
        start::<Fan>(&*bed.engine, "taken", &2).await,
        Ok(Started::Exists)
    );
    assert_eq!(bed.engine.result("taken", WAIT).await.unwrap(), first);
    assert_eq!(bed.world.log(), ["a"]);
    bed.engine.delete("taken").await.unwrap();
    assert_eq!(bed.engine.status("taken").await, Ok(None));
    bed.engine.delete("taken").await.unwrap();
    completed::<Vec<String>>(&run_walk(bed, "taken", &other).await);
    assert_eq!(bed.world.log(), ["a", "b"]);
}

/// Of many starts at once one starts, and the work is done once.
pub(crate) async fn starts_once(bed: &Bed) {
    let input = WalkInput::new(&[("a", Behaviour::Succeed)]);
    let starts = join_all((0..8).map(|_| start::<Walk>(&*bed.engine, "once", &input))).await;
    let n_started = starts
        .iter()
        .filter(|start| **start == Ok(Started::Started))
        .count();
    assert_eq!(n_started, 1, "{starts:?}");
    assert!(starts.iter().all(Result::is_ok), "{starts:?}");
    completed::<Vec<String>>(&bed.engine.result("once", WAIT).await.unwrap());
    assert_eq!(bed.world.log(), ["a"]);
}

/// Unread messages outlive an execution, each is read once, and the next execution has keys of its own.
pub(crate) async fn goes_on_as_new(bed: &Bed) {
    let input = ReadingInput {
        wanted: 6,
        read: Vec::new(),
    };
    start::<Reading>(&*bed.engine, "reading", &input)
        .await
        .unwrap();
    for number in 0..6 {
        bed.engine
            .signal("reading", "numbers", &number.to_string())
            .await
            .unwrap();
    }
    let outcome = bed.engine.result("reading", WAIT).await.unwrap();
    let (read, key) = completed::<(Vec<u32>, String)>(&outcome);
    assert_eq!(read, [0, 1, 2, 3, 4, 5]);
    assert_eq!(key, "reading@3/act");
    assert_eq!(bed.world.log(), ["page", "page", "page"]);
    let history = bed.engine.history("reading").await.unwrap();
    assert!(
        history.iter().any(|entry| entry.execution == 1),
        "{history:?}"
    );
    assert!(
        history.iter().any(|entry| entry.execution == 3),
        "{history:?}"
    );
}

/// Activities run side by side, more of them than any engine polls by wake-ups, and a child answers.
pub(crate) async fn joins_and_has_children(bed: &Bed) {
    start::<Fan>(&*bed.engine, "fan", &40).await.unwrap();
    let outcome = bed.engine.result("fan", WAIT).await.unwrap();
    let (n_branches, child) = completed::<(usize, Vec<String>)>(&outcome);
    assert_eq!((n_branches, child), (40, vec!["fan-child/act".to_owned()]));
}

async fn refuses_names(engine: &dyn Engine) {
    for id in ["", "a b", "a::b", "ä"] {
        let refused = engine.start("walk", id, "{}").await;
        assert_eq!(refused, Err(EngineError::BadName { id: id.into() }));
    }
}

/// What can't be exchanged is refused with words, wherever it appears.
pub(crate) async fn refuses_what_it_cannot_take(bed: &Bed) {
    let engine = &*bed.engine;
    let huge = format!("\"{}\"", "x".repeat(256 * 1024));
    assert!(matches!(
        engine.start("walk", "huge", &huge).await,
        Err(EngineError::Exchange(_))
    ));
    assert!(matches!(
        engine.start("walk", "torn", "{").await,
        Err(EngineError::Exchange(_))
    ));
    let unknown = engine.start("nothing", "unknown", "{}").await;
    assert_eq!(
        unknown,
        Err(EngineError::UnknownKind {
            kind: "nothing".into()
        })
    );
    refuses_names(engine).await;
    let nobody = engine.signal("nobody", "box", "1").await;
    assert_eq!(
        nobody,
        Err(EngineError::NotFound {
            id: "nobody".into()
        })
    );
    assert_eq!(
        engine.result("nobody", WAIT).await,
        Err(EngineError::NotFound {
            id: "nobody".into()
        })
    );

    start::<Pausing>(engine, "running", &1).await.unwrap();
    let status = engine.status("running").await.unwrap().unwrap();
    assert_eq!(
        (status.kind.as_str(), status.state),
        ("pausing", StatusKind::Running)
    );
    assert!(matches!(
        engine.signal("running", "box", &huge).await,
        Err(EngineError::Exchange(_))
    ));
    let running = engine.delete("running").await;
    assert_eq!(
        running,
        Err(EngineError::StillRunning {
            id: "running".into()
        })
    );

    let input = WalkInput::new(&[("a", Behaviour::Answer(256 * 1024))]);
    let failure = failed(run_walk(bed, "long-answer", &input).await);
    assert_eq!(failure.code, "exchange");
    assert!(
        failure.message.contains("the output of `act` has"),
        "{failure}"
    );
    let failure = failed({
        engine
            .start("walk", "other-input", "{\"steps\":1}")
            .await
            .unwrap();
        engine.result("other-input", WAIT).await.unwrap()
    });
    assert!(
        failure
            .message
            .contains("the input of `walk` does not have the expected type"),
        "{failure}"
    );
}

/// Many workflows at once all end; nothing runs on. The list is paged.
pub(crate) async fn carries_many(bed: &Bed, count: usize) {
    let input = WalkInput::new(&[("a", Behaviour::Succeed), ("b", Behaviour::Succeed)]);
    for chunk in (0..count).collect::<Vec<_>>().chunks(50) {
        let starts = chunk.iter().map(|n| {
            let (input, engine) = (&input, &*bed.engine);
            async move { start::<Walk>(engine, &format!("many-{n:05}"), input).await }
        });
        assert!(
            join_all(starts)
                .await
                .iter()
                .all(|start| *start == Ok(Started::Started))
        );
    }
    for n in 0..count {
        let id = format!("many-{n:05}");
        // The first to begin waits behind all others at each of its steps.
        let outcome = bed.engine.result(&id, MANY_WAIT).await.unwrap();
        let keys = completed::<Vec<String>>(&outcome);
        assert_eq!(keys, [format!("{id}/act"), format!("{id}/act#2")]);
    }
    assert_eq!(bed.world.log().len(), 2 * count, "no activity ran twice");
    wait_for_none_running(&*bed.engine).await;
    let mut page = PageRequest {
        limit: 200,
        ..PageRequest::default()
    };
    let mut ids = Vec::new();
    loop {
        let part = bed.engine.list(&page).await.unwrap();
        ids.extend(part.items.into_iter().map(|item| item.id));
        page.after = part.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(
        ids,
        (0..count)
            .map(|n| format!("many-{n:05}"))
            .collect::<Vec<_>>(),
        "each is listed once, by id"
    );
}

/// Waits until an engine lists nothing as running: its list may come a moment after the ends.
async fn wait_for_none_running(engine: &dyn Engine) {
    let running = PageRequest {
        state: Some(StatusKind::Running),
        ..PageRequest::default()
    };
    eventually("nothing runs any more", WAIT, async || {
        let left = engine.list(&running).await.unwrap().items;
        left.is_empty().then_some(())
    })
    .await;
}
