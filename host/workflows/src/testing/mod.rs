//! An engine in memory, deterministic, with time that jumps: every road of a workflow in milliseconds.
//!
//! It keeps a history and replays it, so that the process can be "killed" after any call; it can make any call fail
//! before or after its effect, run every call twice, lose every message and cancel at any point. The generic checks in
//! [`checks`] do all of that to any workflow.

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

/// Turns of the executor after which a workflow counts as endless.
const TURNS_MAX: usize = 100_000;

/// What goes wrong in a run.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The call with this number (from 0) fails for good, all its tries.
    pub fail: Option<(usize, When)>,
    /// The first try of every call fails, before its effect.
    pub is_flaky: bool,
    /// Every call runs twice, as after a crash between effect and record.
    pub is_doubled: bool,
    /// The workflow is cancelled once so many calls were made.
    pub cancel_after: Option<usize>,
    /// The process dies once so many calls were made, the last of them unrecorded when [`When::After`].
    pub kill_after: Option<(usize, When)>,
}

/// On which side of its effect a call is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before: nothing was done.
    Before,
    /// After: it was done, and nobody heard.
    After,
}

/// Messages for running workflows, as the world sends them.
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

/// What a run was like.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The names of the called activities, tries not counted.
    pub calls: Vec<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, in the workflow's time.
    pub took: Duration,
}

#[derive(Default)]
struct Shared {
    now: Duration,
    timers: BTreeSet<Duration>,
    mailboxes: BTreeMap<(String, String), Vec<Message>>,
    read: BTreeMap<(String, String), usize>,
    /// Outcomes by key and try; what a killed process left behind.
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

/// Runs one workflow to its end. `post` is what the activities send messages with.
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
    /// Forgets what dies with a process.
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

/// Polls the workflow, and lets time jump to the next timer whenever nothing else can happen.
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
            .expect("the workflow waits for something that never comes")
            .max(shared.now);
    }
    panic!("the workflow does not end");
}
