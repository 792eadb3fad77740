//! Implements the workflow port in memory: the faults of the next call, and the history that a killed process leaves.

use std::convert::Infallible;
use std::sync::{Arc, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{BoxFuture, poll_fn};
use serde_json::value::RawValue;

use super::{Message, Post, Shared, When};
use crate::activity::{Activities, ActivityContext, Pulse};
use crate::error::{ActivityError, Failure};
use crate::flow::{ActivityCall, Control, Flow, TryFailed, locked};
use crate::workflow::Workflows;

/// One running workflow.
pub(super) struct Memory {
    pub(super) id: String,
    pub(super) execution: u64,
    pub(super) activities: Activities,
    pub(super) workflows: Workflows,
    pub(super) post: Post,
}

impl Memory {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        locked(&self.post.0)
    }

    /// Counts the call and decides its fault.
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
        let handler = handler.unwrap_or_else(|| panic!("the activity `{name}` is not implemented"));
        let (id, post) = (self.id.clone(), self.post.clone());
        Box::pin(async move {
            let context = || ActivityContext::new(&id, &call, Arc::new(Still(post.clone())));
            let mut outcome = Err(injected(plan.is_final));
            if plan.fails != Some(When::Before) {
                for _ in 0..=usize::from(plan.is_doubled || plan.killed == Some(When::After)) {
                    outcome = handler(context(), call.input.get().to_owned()).await;
                    if plan.killed == Some(When::After) {
                        // The effect has happened but is not recorded.
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
                "the workflow kind `{kind}` is not registered"
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
            // A replay must deliver a message at the recorded point, not earlier.
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
    std::future::pending::<()>().await;
}

fn injected(is_final: bool) -> ActivityError {
    if is_final {
        ActivityError::permanent("injected", "the test injected a failure")
    } else {
        ActivityError::retryable("injected", "the test injected one failure")
    }
}

/// Ignores heartbeats.
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
