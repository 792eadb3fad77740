//! A deterministic engine in memory with simulated time, for testing every path of a workflow in milliseconds.
//!
//! It keeps a history and replays it, so that a test can "kill" the process after any call. It can fail any call
//! before or after its effect, run every call twice, lose every message and cancel at any point. The generic checks
//! in [`checks`] do all of that to any workflow.

pub mod checks;
pub mod migrate_world;
pub mod node_world;

mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::task::noop_waker_ref;

use self::memory::Memory;
use crate::activity::Activities;
use crate::engine::Outcome;
use crate::error::Failure;
use crate::flow::{Flow, TryFailed, locked};
use crate::workflow::{Workflow, Workflows};

/// The number of executor turns after which a workflow counts as endless.
const TURNS_MAX: usize = 100_000;

/// The faults to inject into a run.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The call with this number (from 0) fails in all its attempts.
    pub fail: Option<(usize, When)>,
    /// The first attempt of every call fails before its effect.
    pub is_flaky: bool,
    /// Every call runs twice, as after a crash between effect and record.
    pub is_doubled: bool,
    /// The workflow is cancelled after this many calls.
    pub cancel_after: Option<usize>,
    /// The process dies after this many calls, the last of them unrecorded when [`When::After`].
    pub kill_after: Option<(usize, When)>,
}

/// Whether a fault hits a call before or after its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before: the effect did not happen.
    Before,
    /// After: the effect happened, and the result was lost.
    After,
}

/// Sends messages to running workflows, as the world does.
#[derive(Clone, Default)]
pub struct Post(Arc<Mutex<Shared>>);

impl Post {
    /// Puts a message into a mailbox.
    pub fn send(&self, workflow_id: &str, mailbox: &str, text: &str) {
        let mut shared = locked(&self.0);
        let message = Message {
            text: text.to_owned(),
            at: shared.now,
            at_call: shared.n_calls,
        };
        let key = (workflow_id.to_owned(), mailbox.to_owned());
        shared.mailboxes.entry(key).or_default().push(message);
    }
}

/// The trace of a run.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The names of the called activities; attempts are not counted.
    pub calls: Vec<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, in simulated time.
    pub took: Duration,
}

#[derive(Default)]
struct Shared {
    now: Duration,
    timers: BTreeSet<Duration>,
    mailboxes: BTreeMap<(String, String), Vec<Message>>,
    read: BTreeMap<(String, String), usize>,
    /// Results by key and attempt, which survive a killed process.
    history: BTreeMap<(String, u32), Result<String, TryFailed>>,
    /// Calls in order, by key.
    keys: Vec<String>,
    calls: Vec<String>,
    n_calls: usize,
    next_input: Option<String>,
    is_stopped: bool,
    is_killed: bool,
    faults: Faults,
}

struct Message {
    text: String,
    at: Duration,
    at_call: usize,
}

/// Runs one workflow to its end. The activities send messages with `post`.
pub fn run<W: Workflow>(
    id: &str,
    input: &W::Input,
    activities: &Activities,
    post: &Post,
    faults: &Faults,
) -> Trace {
    let workflows = Workflows::default().with::<W>();
    let first = serde_json::to_string(input).expect("inputs of tests can be written");
    locked(&post.0).faults = faults.clone();
    let mut input = first;
    let mut execution = 1;
    loop {
        locked(&post.0).begin();
        let control = Memory {
            id: id.to_owned(),
            execution,
            activities: activities.clone(),
            workflows: workflows.clone(),
            post: post.clone(),
        };
        let registered = workflows.newest(W::KIND).expect("it was registered above");
        let running = (registered.run)(Flow::new(Arc::new(control)), input.clone());
        match drive(running, post) {
            Ended::With(outcome) => return locked(&post.0).trace(outcome),
            Ended::Killed => {}
            Ended::Again(next) => {
                input = next;
                execution += 1;
            }
        }
    }
}

impl Shared {
    /// Forgets what a process loses when it dies.
    fn begin(&mut self) {
        self.now = Duration::ZERO;
        self.timers.clear();
        self.read.clear();
        self.keys.clear();
        self.calls.clear();
        self.n_calls = 0;
        self.is_stopped = false;
        self.is_killed = false;
    }

    fn trace(&self, outcome: Result<String, Failure>) -> Trace {
        let outcome = match outcome {
            Ok(output) => Outcome::Completed(output),
            Err(failure) => Outcome::Failed(failure),
        };
        Trace {
            calls: self.calls.clone(),
            outcome,
            took: self.now,
        }
    }
}

enum Ended {
    With(Result<String, Failure>),
    Killed,
    Again(String),
}

/// Polls the workflow, and advances time to the next timer whenever nothing else can happen.
fn drive(mut running: BoxFuture<'static, Result<String, Failure>>, post: &Post) -> Ended {
    let mut cx = Context::from_waker(noop_waker_ref());
    for _ in 0..TURNS_MAX {
        if let Poll::Ready(outcome) = running.as_mut().poll(&mut cx) {
            return Ended::With(outcome);
        }
        let mut shared = locked(&post.0);
        if shared.is_killed {
            shared.faults.kill_after = None;
            return Ended::Killed;
        }
        if let Some(next) = shared.next_input.take() {
            return Ended::Again(next);
        }
        let next = shared.timers.pop_first();
        shared.now = next
            .expect("the workflow waits for a message that never arrives")
            .max(shared.now);
    }
    panic!("the workflow does not end");
}
