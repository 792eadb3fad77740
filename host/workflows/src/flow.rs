//! The port inside a workflow: [`Flow`] has the verbs, [`Control`] is what an engine implements.
//!
//! `Flow` is one concrete type over a small object, so that workflows are plain async functions without a type
//! parameter, and typing, bounds, step keys and cancelling are written once for all engines. Everything that `Control`
//! answers must be the same at a replay.

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

/// One call of an activity, as it travels through an engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActivityCall {
    /// The activity's name.
    pub name: String,
    /// Workflow id + step: the same for every try and every replay, and for no other step.
    pub key: String,
    /// The number of the try, from 1.
    pub attempt: u32,
    /// The last heartbeat of the try before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Box<RawValue>>,
    /// Whether cancelling the workflow leaves this call alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shielded: bool,
    /// Limits and tries.
    pub retry: Retry,
    /// The input as JSON.
    pub input: Box<RawValue>,
}

/// A failed try and its last heartbeat.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TryFailed {
    /// Why it failed.
    pub error: ActivityError,
    /// What it had reported, for the next try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Box<RawValue>>,
}

impl From<ActivityError> for TryFailed {
    fn from(error: ActivityError) -> Self {
        Self { error, last: None }
    }
}

/// One running workflow, as its engine provides it. Futures do their work when they are made, not when first polled;
/// a future that is dropped is cancelled.
pub trait Control: Send + Sync + 'static {
    /// The workflow's id.
    fn workflow_id(&self) -> String;

    /// The number of this execution, from 1; [`Control::again`] adds one.
    fn execution(&self) -> u64;

    /// One try of an activity, within the limits of `call.retry`.
    fn try_activity(&self, call: ActivityCall) -> BoxFuture<'static, Result<String, TryFailed>>;

    /// An activity with all its tries. Engines that retry by themselves override it.
    fn activity(
        self: Arc<Self>,
        call: ActivityCall,
        watch: Watch,
    ) -> BoxFuture<'static, Result<String, ActivityError>> {
        Box::pin(retrying(self, call, watch))
    }

    /// Tells the running activities of this workflow, shielded ones excepted, that it was cancelled.
    fn stop_activities(&self, reason: &str);

    /// A child workflow, until its end.
    fn child(
        &self,
        kind: &str,
        id: &str,
        input: String,
    ) -> BoxFuture<'static, Result<String, Failure>>;

    /// A durable pause.
    fn timer(&self, pause: Duration) -> BoxFuture<'static, ()>;

    /// The next message of a mailbox; those that came before count, each once, in order.
    fn signal(&self, mailbox: &str) -> BoxFuture<'static, String>;

    /// Shows progress to who asks the engine.
    fn status(&self, progress: String);

    /// Ends this execution and begins the next one with `input` and an empty history; unread messages stay.
    fn again(&self, input: String) -> BoxFuture<'static, Infallible>;

    /// Comes with the reason when somebody asks the workflow to stop.
    fn cancelled(&self) -> BoxFuture<'static, String>;
}

/// What a workflow does things with.
#[derive(Clone)]
pub struct Flow {
    control: Arc<dyn Control>,
    watch: Watch,
    /// How often each step name was used in this execution.
    steps: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Flow {
    /// The flow of a workflow that begins, or begins to be replayed.
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

    /// The same flow, deaf to cancelling: for undoing, and for work that must be finished once begun.
    #[must_use]
    pub fn shielded(&self) -> Self {
        Self {
            watch: Watch(None),
            ..self.clone()
        }
    }

    /// Runs an activity with its own limits and tries.
    pub async fn activity<A: Activity>(
        &self,
        activity: A,
        input: &A::Input,
    ) -> Result<A::Output, FlowError> {
        self.activity_with(activity, input, A::RETRY).await
    }

    /// Runs an activity with other limits and tries.
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

    /// Runs a child workflow until its end. The same id is the same workflow.
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

    /// Pauses durably.
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

    /// Takes the next message of a mailbox, whatever it says, unless `limit` passes first.
    pub async fn nudge(&self, mailbox: &str, limit: Duration) -> Result<bool, FlowError> {
        self.go_on()?;
        let both = select(self.control.signal(mailbox), self.control.timer(limit));
        Ok(matches!(self.or_cancelled(both).await?, Either::First(_)))
    }

    /// Shows progress to who asks the engine.
    pub fn status<P: Serialize>(&self, progress: &P) -> Result<(), FlowError> {
        self.control.status(encode("the progress", progress)?);
        Ok(())
    }

    /// Begins anew with another input and an empty history; comes back only with an error.
    pub async fn again<I: Serialize>(&self, input: &I) -> Result<Infallible, FlowError> {
        self.go_on()?;
        Ok(self.control.again(encode("the next input", input)?).await)
    }

    /// An error once the workflow was asked to stop.
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

/// Whether the workflow was asked to stop; shared by everything that the workflow waits for.
#[derive(Clone)]
pub struct Watch(Option<Arc<Mutex<Ask>>>);

enum Ask {
    Open(BoxFuture<'static, String>),
    Cancelled(String),
}

impl Watch {
    /// Comes with the reason; never for shielded work.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled(self.clone())
    }

    /// Whether the reason has come.
    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    /// Looks now. Work that is always ready would otherwise never look; the workflow is polled after every event, so
    /// no waker is missed.
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

/// A lock whose holders never panic halfway; a poisoned one is therefore still whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
