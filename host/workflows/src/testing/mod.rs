//! An engine in memory, deterministic, with time that jumps: every road of a workflow in milliseconds.
//!
//! It keeps a history and replays it, so that the process can be "killed" after any call; it can make any call fail
//! before or after its effect, run every call twice, lose every message and cancel at any point. The generic checks in
//! [`checks`] do all of that to any workflow.

pub mod checks;
pub mod node_world;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{BoxFuture, poll_fn};
use futures_util::task::noop_waker_ref;
use serde_json::value::RawValue;

use crate::activity::{Activities, ActivityContext, Pulse};
use crate::engine::Outcome;
use crate::error::{ActivityError, Failure};
use crate::flow::{ActivityCall, Control, Flow, TryFailed, locked};
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

struct Memory {
    id: String,
    execution: u64,
    activities: Activities,
    workflows: Workflows,
    post: Post,
}

impl Memory {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        locked(&self.post.0)
    }

    /// Counts the call and decides what hits it.
    fn plan(&self, call: &ActivityCall) -> Plan {
        let mut shared = self.shared();
        if call.attempt == 1 {
            shared.keys.push(call.key.clone());
            shared.calls.push(call.name.clone());
            shared.n_calls += 1;
        }
        let number = shared
            .keys
            .iter()
            .position(|key| *key == call.key)
            .unwrap_or_default();
        let fails = shared
            .faults
            .fail
            .filter(|(at, _)| *at == number)
            .map(|(_, when)| when);
        let is_last = |(at, when)| (number + 1 == at).then_some(when);
        Plan {
            recorded: shared
                .history
                .get(&(call.key.clone(), call.attempt))
                .cloned(),
            fails: fails.or((shared.faults.is_flaky && call.attempt == 1).then_some(When::Before)),
            is_final: fails.is_some(),
            is_doubled: shared.faults.is_doubled,
            killed: shared.faults.kill_after.and_then(is_last),
        }
    }
}

struct Plan {
    recorded: Option<Result<String, TryFailed>>,
    fails: Option<When>,
    is_final: bool,
    is_doubled: bool,
    killed: Option<When>,
}

impl Control for Memory {
    fn workflow_id(&self) -> String {
        self.id.clone()
    }

    fn execution(&self) -> u64 {
        self.execution
    }

    fn try_activity(&self, call: ActivityCall) -> BoxFuture<'static, Result<String, TryFailed>> {
        let plan = self.plan(&call);
        if let Some(recorded) = plan.recorded {
            return Box::pin(std::future::ready(recorded));
        }
        let name = call.name.clone();
        let handler = self.activities.handler(&name);
        let handler = handler.unwrap_or_else(|| panic!("nobody implements `{name}`"));
        let (id, post) = (self.id.clone(), self.post.clone());
        Box::pin(async move {
            let context = || ActivityContext::new(&id, &call, Arc::new(Still(post.clone())));
            let mut outcome = Err(injected(plan.is_final));
            if plan.fails != Some(When::Before) {
                for _ in 0..=usize::from(plan.is_doubled || plan.killed == Some(When::After)) {
                    outcome = handler(context(), call.input.get().to_owned()).await;
                    if plan.killed == Some(When::After) {
                        // The effect is in the world, and nowhere else.
                        die(&post).await;
                    }
                }
            }
            if plan.fails == Some(When::After) {
                outcome = Err(injected(plan.is_final));
            }
            let outcome = outcome.map_err(TryFailed::from);
            locked(&post.0)
                .history
                .insert((call.key.clone(), call.attempt), outcome.clone());
            if plan.killed == Some(When::Before) {
                die(&post).await;
            }
            outcome
        })
    }

    fn stop_activities(&self, _reason: &str) {
        self.shared().is_stopped = true;
    }

    fn child(
        &self,
        kind: &str,
        id: &str,
        input: String,
    ) -> BoxFuture<'static, Result<String, Failure>> {
        let Some(registered) = self.workflows.newest(kind) else {
            return Box::pin(std::future::ready(Err(Failure::engine(format!(
                "no `{kind}`"
            )))));
        };
        let control = Self {
            id: id.to_owned(),
            execution: 1,
            activities: self.activities.clone(),
            workflows: self.workflows.clone(),
            post: self.post.clone(),
        };
        (registered.run)(Flow::new(Arc::new(control)), input)
    }

    fn timer(&self, pause: Duration) -> BoxFuture<'static, ()> {
        let mut shared = self.shared();
        let due = shared.now + pause;
        shared.timers.insert(due);
        let post = self.post.clone();
        Box::pin(poll_fn(move |_| {
            if locked(&post.0).now >= due {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }))
    }

    fn signal(&self, mailbox: &str) -> BoxFuture<'static, String> {
        let key = (self.id.clone(), mailbox.to_owned());
        let post = self.post.clone();
        Box::pin(poll_fn(move |_| {
            let mut shared = locked(&post.0);
            let read = shared.read.get(&key).copied().unwrap_or_default();
            let messages = shared
                .mailboxes
                .get(&key)
                .map(Vec::as_slice)
                .unwrap_or_default();
            // At a replay a message comes when it came, not earlier.
            let came =
                |message: &&Message| message.at <= shared.now && message.at_call <= shared.n_calls;
            match messages
                .get(read)
                .filter(came)
                .map(|message| message.text.clone())
            {
                Some(text) => {
                    shared.read.insert(key.clone(), read + 1);
                    Poll::Ready(text)
                }
                None => Poll::Pending,
            }
        }))
    }

    fn status(&self, _progress: String) {}

    fn again(&self, input: String) -> BoxFuture<'static, Infallible> {
        self.shared().next_input = Some(input);
        Box::pin(std::future::pending())
    }

    fn cancelled(&self) -> BoxFuture<'static, String> {
        let post = self.post.clone();
        Box::pin(poll_fn(move |_| {
            let shared = locked(&post.0);
            let is_due = |after: usize| shared.n_calls >= after;
            if shared.faults.cancel_after.is_some_and(is_due) {
                Poll::Ready("nobody wants it".to_owned())
            } else {
                Poll::Pending
            }
        }))
    }
}

async fn die(post: &Post) {
    locked(&post.0).is_killed = true;
    std::future::pending().await
}

fn injected(is_final: bool) -> ActivityError {
    if is_final {
        ActivityError::permanent("injected", "a test made it fail")
    } else {
        ActivityError::retryable("injected", "a test made it fail once")
    }
}

/// Heartbeats that nobody counts.
struct Still(Post);

impl Pulse for Still {
    fn beat(&self, _progress: Box<RawValue>) {}

    fn is_cancelled(&self) -> bool {
        locked(&self.0.0).is_stopped
    }

    fn cancelled(&self) -> BoxFuture<'static, ()> {
        let post = self.0.clone();
        Box::pin(poll_fn(move |_| {
            if locked(&post.0).is_stopped {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }))
    }
}
