//! How activities are declared and implemented, and the registry of their implementations.
//!
//! Activities are types, so that the calling workflow and the implementation can't disagree.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::error::ActivityError;
use crate::exchange::{decode, encode};
use crate::flow::ActivityCall;
use crate::retry::Retry;

/// An effect that a workflow may have on the outside world. A changed meaning needs a new name (`claim_machine_v2`),
/// and the old one stays until no workflow calls it.
pub trait Activity: Copy + Send + Sync + 'static {
    /// The name in histories and step keys.
    const NAME: &'static str;
    /// Time limits and attempts.
    const RETRY: Retry = Retry::DEFAULT;
    /// The input: ids, never secrets.
    type Input: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// The output: ids, never secrets.
    type Output: Serialize + DeserializeOwned + Send + 'static;
}

/// The engine's side of an [`ActivityContext`].
pub trait Pulse: Send + Sync + 'static {
    /// Records a heartbeat.
    fn beat(&self, progress: Box<RawValue>);
    /// Whether the attempt should end.
    fn is_cancelled(&self) -> bool;
    /// Resolves when the attempt should end.
    fn cancelled(&self) -> BoxFuture<'static, ()>;
}

/// What an activity knows about its attempt.
#[derive(Clone)]
pub struct ActivityContext {
    workflow_id: Arc<str>,
    key: Arc<str>,
    attempt: u32,
    last: Option<Box<RawValue>>,
    pulse: Arc<dyn Pulse>,
}

impl ActivityContext {
    /// The context of one attempt.
    pub fn new(workflow_id: &str, call: &ActivityCall, pulse: Arc<dyn Pulse>) -> Self {
        Self {
            workflow_id: workflow_id.into(),
            key: call.key.as_str().into(),
            attempt: call.attempt,
            last: call.last.clone(),
            pulse,
        }
    }

    /// The calling workflow.
    pub fn workflow_id(&self) -> &str {
        &self.workflow_id
    }

    /// Workflow id and step. An activity uses it to remember what must not happen twice: the same step may run again
    /// after a crash, even when it succeeded.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The number of the attempt, from 1. An attempt that a crash interrupted runs again under its number.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Sends a heartbeat with the progress. An attempt without a heartbeat for its limit is aborted.
    pub fn heartbeat<P: Serialize>(&self, progress: &P) {
        let text = encode("the heartbeat", progress).unwrap_or_else(|_| "null".to_owned());
        if let Ok(progress) = RawValue::from_string(text) {
            self.pulse.beat(progress);
        }
    }

    /// The last heartbeat of the previous attempt. It is a hint: after a crash of the process it may be older.
    pub fn last<P: DeserializeOwned>(&self) -> Option<P> {
        self.last
            .as_ref()
            .and_then(|text| serde_json::from_str(text.get()).ok())
    }

    /// Whether the workflow was cancelled, so that the activity should end soon and cleanly.
    pub fn is_cancelled(&self) -> bool {
        self.pulse.is_cancelled()
    }

    /// Resolves when the workflow is cancelled.
    pub fn cancelled(&self) -> BoxFuture<'static, ()> {
        self.pulse.cancelled()
    }
}

/// An activity's implementation, with JSON text on both sides.
pub type Handler = Arc<
    dyn Fn(ActivityContext, String) -> BoxFuture<'static, Result<String, ActivityError>>
        + Send
        + Sync,
>;

/// The implementations of all activities.
#[derive(Clone, Default)]
pub struct Activities {
    handlers: BTreeMap<&'static str, Handler>,
}

impl Activities {
    /// Registers an implementation; a second registration replaces the first.
    pub fn on<A, F, Fut>(&mut self, _: A, handler: F) -> &mut Self
    where
        A: Activity,
        F: Fn(ActivityContext, A::Input) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<A::Output, ActivityError>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let typed: Handler = Arc::new(move |ctx, input| {
            let handler = Arc::clone(&handler);
            Box::pin(async move {
                let input = decode(&format!("the input of `{}`", A::NAME), &input)?;
                let output = handler(ctx, input).await?;
                Ok(encode(&format!("the output of `{}`", A::NAME), &output)?)
            })
        });
        self.handlers.insert(A::NAME, typed);
        self
    }

    /// Wraps each implementation: `wrap` maps a name and its handler to the new handler.
    #[must_use]
    pub fn around(self, wrap: impl Fn(&'static str, Handler) -> Handler) -> Self {
        let handlers = self.handlers.into_iter();
        Self {
            handlers: handlers
                .map(|(name, handler)| (name, wrap(name, handler)))
                .collect(),
        }
    }

    /// The implementation of the named activity.
    pub fn handler(&self, name: &str) -> Option<Handler> {
        self.handlers.get(name).cloned()
    }

    /// Every registered name.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.handlers.keys().copied()
    }
}
