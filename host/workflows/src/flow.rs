//! The port inside a workflow: workflows call [`Flow`], and engines implement [`Control`].
//!
//! `Flow` is one concrete type over a small trait object. So workflows are plain async functions without a type
//! parameter, and typing, bounds, step keys and cancellation are written once for all engines. Every answer of
//! `Control` must be the same in a replay.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::task::noop_waker_ref;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::activity::Activity;
use crate::combine::{Either, select};
use crate::error::{ActivityError, Failure, FlowError};
use crate::exchange::{check, decode, encode};
use crate::retry::{Retry, retrying};

/// One call of an activity, as it passes through an engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActivityCall {
    /// The activity's name.
    pub name: String,
    /// Workflow id and step: the same for every attempt and replay, and unique to the step.
    pub key: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The last heartbeat of the previous attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Box<RawValue>>,
    /// Whether a cancel of the workflow does not affect this call.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shielded: bool,
    /// Time limits and attempts.
    pub retry: Retry,
    /// The input as JSON.
    pub input: Box<RawValue>,
}

/// A failed attempt and its last heartbeat.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TryFailed {
    /// Why it failed.
    pub error: ActivityError,
    /// The last heartbeat, for the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Box<RawValue>>,
}

impl From<ActivityError> for TryFailed {
    fn from(error: ActivityError) -> Self {
        Self { error, last: None }
    }
}

/// One running workflow, as its engine provides it. Futures start their work when they are created, not when first
/// polled; dropping a future cancels it.
pub trait Control: Send + Sync + 'static {
    /// The workflow's id.
    fn workflow_id(&self) -> String;

    /// The number of this execution, from 1; [`Control::again`] adds one.
    fn execution(&self) -> u64;

    /// Makes one attempt of an activity, within the limits of `call.retry`.
    fn try_activity(&self, call: ActivityCall) -> BoxFuture<'static, Result<String, TryFailed>>;

    /// Runs an activity with all its attempts. Engines with their own retries override it.
    fn activity(
        self: Arc<Self>,
        call: ActivityCall,
        watch: Watch,
    ) -> BoxFuture<'static, Result<String, ActivityError>> {
        Box::pin(retrying(self, call, watch))
    }

    /// Asks the running activities of this workflow to stop, except shielded ones, because the workflow was
    /// cancelled.
    fn stop_activities(&self, reason: &str);

    /// Runs a child workflow to its end.
    fn child(
        &self,
        kind: &str,
        id: &str,
        input: String,
    ) -> BoxFuture<'static, Result<String, Failure>>;

    /// A durable timer.
    fn timer(&self, pause: Duration) -> BoxFuture<'static, ()>;

    /// The next message of a mailbox; earlier unread messages come first, each once, in order.
    fn signal(&self, mailbox: &str) -> BoxFuture<'static, String>;

    /// Reports progress for readers of the engine.
    fn status(&self, progress: String);

    /// Ends this execution and starts the next one with `input` and an empty history; unread messages stay.
    fn again(&self, input: String) -> BoxFuture<'static, Infallible>;

    /// Resolves with the reason when the workflow is cancelled.
    fn cancelled(&self) -> BoxFuture<'static, String>;
}

/// The handle through which a workflow acts.
#[derive(Clone)]
pub struct Flow {
    control: Arc<dyn Control>,
    watch: Watch,
    /// How often each step name was used in this execution.
    steps: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Flow {
    /// The flow of a workflow that starts or is replayed.
    pub fn new(control: Arc<dyn Control>) -> Self {
        let watch = Watch(Some(Arc::new(Mutex::new(Ask::Open(control.cancelled())))));
        Self {
            control,
            watch,
            steps: Arc::default(),
        }
    }

    /// The workflow's id.
    pub fn id(&self) -> String {
        self.control.workflow_id()
    }

    /// The same flow, shielded from cancellation: for undos, and for work that must be finished once started.
    #[must_use]
    pub fn shielded(&self) -> Self {
        Self {
            watch: Watch(None),
            ..self.clone()
        }
    }

    /// Runs an activity with its own limits and attempts.
    pub async fn activity<A: Activity>(
        &self,
        activity: A,
        input: &A::Input,
    ) -> Result<A::Output, FlowError> {
        self.activity_with(activity, input, A::RETRY).await
    }

    /// Runs an activity with other limits and attempts.
    pub async fn activity_with<A: Activity>(
        &self,
        _: A,
        input: &A::Input,
        retry: Retry,
    ) -> Result<A::Output, FlowError> {
        self.go_on()?;
        let text = encode(&format!("the input of `{}`", A::NAME), input)?;
        let call = ActivityCall {
            name: A::NAME.to_owned(),
            key: self.key(A::NAME),
            attempt: 1,
            last: None,
            shielded: self.watch.0.is_none(),
            retry,
            input: raw(A::NAME, text)?,
        };
        match Arc::clone(&self.control)
            .activity(call, self.watch.clone())
            .await
        {
            Ok(output) => Ok(decode(&format!("the output of `{}`", A::NAME), &output)?),
            Err(error) => {
                self.go_on()?;
                Err(FlowError::Activity {
                    activity: A::NAME.to_owned(),
                    error,
                })
            }
        }
    }

    /// Runs a child workflow to its end. The same id is the same workflow.
    pub async fn child<W: crate::Workflow>(
        &self,
        id: &str,
        input: &W::Input,
    ) -> Result<W::Output, FlowError> {
        self.go_on()?;
        let text = encode(&format!("the input of the workflow `{id}`"), input)?;
        let output = self
            .or_cancelled(self.control.child(W::KIND, id, text))
            .await?;
        let output = output.map_err(|failure| FlowError::Child {
            id: id.to_owned(),
            failure: Box::new(failure),
        })?;
        Ok(decode(
            &format!("the output of the workflow `{id}`"),
            &output,
        )?)
    }

    /// Waits durably.
    pub async fn timer(&self, pause: Duration) -> Result<(), FlowError> {
        self.go_on()?;
        self.or_cancelled(self.control.timer(pause)).await
    }

    /// Takes the next message of a mailbox.
    pub async fn signal<M: DeserializeOwned>(&self, mailbox: &str) -> Result<M, FlowError> {
        self.go_on()?;
        let text = self.or_cancelled(self.control.signal(mailbox)).await?;
        Ok(decode(
            &format!("a message of the mailbox `{mailbox}`"),
            &text,
        )?)
    }

    /// Takes the next message of a mailbox, whatever its content, unless `limit` passes first.
    pub async fn nudge(&self, mailbox: &str, limit: Duration) -> Result<bool, FlowError> {
        self.go_on()?;
        let both = select(self.control.signal(mailbox), self.control.timer(limit));
        Ok(matches!(self.or_cancelled(both).await?, Either::First(_)))
    }

    /// Reports progress for readers of the engine.
    pub fn status<P: Serialize>(&self, progress: &P) -> Result<(), FlowError> {
        self.control.status(encode("the progress", progress)?);
        Ok(())
    }

    /// Continues as a new execution with another input and an empty history; returns only an error.
    pub async fn again<I: Serialize>(&self, input: &I) -> Result<Infallible, FlowError> {
        self.go_on()?;
        Ok(self.control.again(encode("the next input", input)?).await)
    }

    /// Returns an error once the workflow was cancelled.
    pub fn go_on(&self) -> Result<(), FlowError> {
        match self.watch.reason() {
            Some(reason) => Err(FlowError::Cancelled { reason }),
            None => Ok(()),
        }
    }

    async fn or_cancelled<F: Future + Unpin>(&self, work: F) -> Result<F::Output, FlowError> {
        match select(work, self.watch.cancelled()).await {
            Either::First(value) => Ok(value),
            Either::Second((reason, _)) => Err(FlowError::Cancelled { reason }),
        }
    }

    /// `id/name`, `id/name#2` for the second use, `id@2/name` in the second execution.
    fn key(&self, name: &str) -> String {
        let mut steps = locked(&self.steps);
        let uses = steps.entry(name.to_owned()).or_insert(0);
        *uses += 1;
        let id = self.control.workflow_id();
        let execution = match self.control.execution() {
            1 => String::new(),
            execution => format!("@{execution}"),
        };
        let repeat = if *uses > 1 {
            format!("#{uses}")
        } else {
            String::new()
        };
        format!("{id}{execution}/{name}{repeat}")
    }
}

fn raw(name: &str, text: String) -> Result<Box<RawValue>, FlowError> {
    check(name, &text)?;
    RawValue::from_string(text).map_err(|error| {
        FlowError::Exchange(crate::exchange::ExchangeError::Malformed {
            what: format!("the input of `{name}`"),
            message: error.to_string(),
        })
    })
}

/// Whether the workflow was cancelled; shared by all waits of the workflow.
#[derive(Clone)]
pub struct Watch(Option<Arc<Mutex<Ask>>>);

enum Ask {
    Open(BoxFuture<'static, String>),
    Cancelled(String),
}

impl Watch {
    /// Resolves with the reason; never for shielded work.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled(self.clone())
    }

    /// Whether the reason has arrived.
    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    /// Checks now. Work that is always ready would otherwise never check; the workflow is polled after every event,
    /// so no waker is missed.
    fn reason(&self) -> Option<String> {
        let mut cx = Context::from_waker(noop_waker_ref());
        match Pin::new(&mut self.cancelled()).poll(&mut cx) {
            Poll::Ready(reason) => Some(reason),
            Poll::Pending => None,
        }
    }
}

/// The future of [`Watch::cancelled`].
pub struct Cancelled(Watch);

impl Future for Cancelled {
    type Output = String;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<String> {
        let Some(ask) = &self.0.0 else {
            return Poll::Pending;
        };
        let mut ask = locked(ask);
        let reason = match &mut *ask {
            Ask::Cancelled(reason) => reason.clone(),
            Ask::Open(asked) => match asked.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(reason) => reason,
            },
        };
        *ask = Ask::Cancelled(reason.clone());
        Poll::Ready(reason)
    }
}

/// Locks a mutex; no holder panics halfway, so even a poisoned lock protects consistent data.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
