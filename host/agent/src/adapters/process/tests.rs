//! Supervision of real processes. The integration tests cover the death of an agent.

use std::path::Path;

use proto::v1::process::RestartPolicy;
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::adapters::Adapters;
use crate::layout::Layout;
use crate::process_group::{Lock, kill_marked, marker, take_lock};
use crate::time;

struct Bed {
    _dir: tempfile::TempDir,
    layout: Layout,
    root: NodeRoot,
    events: Arc<EventLog>,
    tasks: Tasks,
    supervisor: Supervisor,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        let root = NodeRoot::create(&layout, NodeId(uuid::Uuid::now_v7())).unwrap();
        let (events, tasks, supervisor) = Self::parts(&layout);
        Self {
            _dir: dir,
            layout,
            root,
            events,
            tasks,
            supervisor,
        }
    }

    fn parts(layout: &Layout) -> (Arc<EventLog>, Tasks, Supervisor) {
        let events = Arc::new(EventLog::open(layout.events()).unwrap());
        let tasks = Tasks::new(CancellationToken::new());
        let supervisor = Supervisor::new(&AdapterParts {
            events: Arc::clone(&events),
            guard: None,
            tasks: tasks.clone(),
        });
        (events, tasks, supervisor)
    }

    /// Ends this supervisor and starts another one on the same folder.
    async fn succeed(&mut self) {
        self.tasks.end().await;
        (self.events, self.tasks, self.supervisor) = Self::parts(&self.layout);
        for record in Adapters::records(&self.root).unwrap() {
            self.supervisor.resume(&self.root, record).unwrap();
        }
    }

    fn process(script: &str) -> pb::Process {
        pb::Process {
            name: "p".to_owned(),
            adapter: "process".to_owned(),
            command: "/bin/sh".to_owned(),
            args: vec!["-c".to_owned(), script.to_owned()],
            restart: RestartPolicy::Always.into(),
            backoff_ms: 10,
            backoff_max_ms: 50,
            restarts_max: 3,
            stop_grace_ms: 300,
            log_bytes_max: 1_000,
            log_files: 3,
            ..Default::default()
        }
    }

    async fn wait(&self, what: &str, is_met: impl Fn(&Status) -> bool) -> Status {
        let end = time::now().plus(Duration::from_secs(10));
        loop {
            let status = self.supervisor.status(self.root.id, "p");
            if is_met(&status) {
                return status;
            }
            assert!(
                time::now() < end,
                "{what}: {status:?}, events {:?}",
                self.kinds()
            );
            time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn kinds(&self) -> Vec<String> {
        let events = self
            .events
            .unsent(&std::collections::BTreeSet::new(), 1_000);
        events.into_iter().map(|event| event.kind).collect()
    }

    fn is_free(&self) -> bool {
        matches!(
            take_lock(&self.root, Path::new("run/p.lock")),
            Ok(Lock::Free(_))
        )
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        kill_marked(&marker(&self.root, "p"));
    }
}

fn kill(status: &Status, signal: Signal) {
    let pid = i32::try_from(status.pid.unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn a_process_runs_and_stops_with_its_descendants() {
    let bed = Bed::new();
    bed.supervisor
        .start(&bed.root, &Bed::process("sleep 1000 & sleep 1000"))
        .await
        .unwrap();
    let status = bed.wait("running", |s| s.state == State::Running).await;
    bed.supervisor
        .start(&bed.root, &Bed::process("sleep 1000 & sleep 1000"))
        .await
        .unwrap();
    assert_eq!(bed.supervisor.status(bed.root.id, "p").pid, status.pid);
    assert!(!bed.is_free());
    bed.supervisor.stop(&bed.root, "p").await.unwrap();
    assert!(bed.is_free());
    assert_eq!(bed.kinds(), ["process_started", "process_exited"]);
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_or_is_frozen_is_killed() {
    let bed = Bed::new();
    bed.supervisor
        .start(
            &bed.root,
            &Bed::process("trap '' TERM; while :; do sleep 1; done"),
        )
        .await
        .unwrap();
    bed.supervisor.stop(&bed.root, "p").await.unwrap();
    assert!(bed.is_free());

    bed.supervisor
        .start(&bed.root, &Bed::process("sleep 1000"))
        .await
        .unwrap();
    let status = bed.wait("running", |s| s.state == State::Running).await;
    kill(&status, Signal::STOP);
    assert_eq!(
        bed.supervisor.status(bed.root.id, "p").state,
        State::Running
    );
    bed.supervisor.stop(&bed.root, "p").await.unwrap();
    assert!(bed.is_free());
}

#[tokio::test]
async fn a_killed_process_comes_back_and_a_hopeless_one_is_given_up() {
    let bed = Bed::new();
    bed.supervisor
        .start(&bed.root, &Bed::process("sleep 1000"))
        .await
        .unwrap();
    let first = bed.wait("running", |s| s.state == State::Running).await;
    kill(&first, Signal::KILL);
    bed.wait("restarted", |s| {
        s.state == State::Running && s.pid != first.pid && s.restarts == 1
    })
    .await;
    assert_eq!(
        bed.kinds(),
        ["process_started", "process_exited", "process_restarted"]
    );

    bed.supervisor
        .start(&bed.root, &Bed::process("exit 3"))
        .await
        .unwrap();
    let status = bed.wait("given up", |s| s.state == State::Failed).await;
    assert_eq!(status.restarts, 3);
    assert_eq!(
        bed.kinds().last().map(String::as_str),
        Some("process_gave_up")
    );
}

#[tokio::test]
async fn restart_policies_hold() {
    for (restart, script, state) in [
        (RestartPolicy::Never, "exit 0", State::Stopped),
        (RestartPolicy::Never, "exit 1", State::Failed),
        (RestartPolicy::OnFailure, "exit 0", State::Stopped),
    ] {
        let bed = Bed::new();
        let process = pb::Process {
            restart: restart.into(),
            ..Bed::process(script)
        };
        bed.supervisor.start(&bed.root, &process).await.unwrap();
        let status = bed
            .wait(script, |s| s.state == state && s.pid.is_none())
            .await;
        assert_eq!(status.restarts, 0, "{restart:?} {script}");
    }
}

#[tokio::test]
async fn a_new_agent_finds_the_process_by_its_pid_or_by_its_marker() {
    for forget in [false, true] {
        let mut bed = Bed::new();
        bed.supervisor
            .start(&bed.root, &Bed::process("sleep 1000"))
            .await
            .unwrap();
        let first = bed.wait("running", |s| s.state == State::Running).await;
        if forget {
            bed.root.remove(Path::new("run/p.pid")).unwrap();
        }
        bed.succeed().await;
        let second = bed.wait("adopted", |s| s.state == State::Running).await;
        assert_eq!(second.pid, first.pid, "forgot the pid: {forget}");
        assert_eq!(bed.kinds(), ["process_started", "process_adopted"]);
        // The adopted process is watched, too.
        kill(&second, Signal::KILL);
        bed.wait("restarted", |s| {
            s.state == State::Running && s.pid != first.pid
        })
        .await;
    }
}

#[tokio::test]
async fn a_new_agent_starts_what_should_run_and_leaves_what_was_stopped() {
    let mut bed = Bed::new();
    bed.supervisor
        .start(&bed.root, &Bed::process("sleep 1000"))
        .await
        .unwrap();
    bed.tasks.end().await;
    kill_marked(&marker(&bed.root, "p"));
    bed.succeed().await;
    bed.wait("started again", |s| s.state == State::Running)
        .await;
    bed.supervisor.stop(&bed.root, "p").await.unwrap();
    let n_events = bed.kinds().len();
    bed.succeed().await;
    bed.wait("left alone", |s| s.state == State::Stopped).await;
    assert!(bed.is_free());
    assert_eq!(bed.kinds().len(), n_events);
    bed.supervisor.remove(&bed.root, "p").await.unwrap();
    assert!(Adapters::records(&bed.root).unwrap().is_empty());
}

#[tokio::test]
async fn what_a_process_prints_is_kept_and_rotated() {
    let bed = Bed::new();
    let script = "while :; do echo 0123456789012345678901234567890123456789; sleep 0.005; done";
    bed.supervisor
        .start(&bed.root, &Bed::process(script))
        .await
        .unwrap();
    let end = time::now().plus(Duration::from_secs(10));
    while !bed.root.has(Path::new("logs/p.log.2")) {
        assert!(time::now() < end, "no rotation");
        time::sleep(Duration::from_millis(20)).await;
    }
    bed.supervisor.stop(&bed.root, "p").await.unwrap();
    assert!(
        bed.root
            .dir
            .read_to_string("logs/p.log.2")
            .unwrap()
            .starts_with("0123")
    );
    assert!(!bed.root.has(Path::new("logs/p.log.3")));
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_an_error_that_names_it() {
    let bed = Bed::new();
    let process = pb::Process {
        command: "bin/nothing".into(),
        ..Bed::process("")
    };
    let error = bed
        .supervisor
        .start(&bed.root, &process)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("bin/nothing"), "{error}");
    assert!(bed.is_free());
}
