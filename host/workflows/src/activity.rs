//! Activities: how they are declared, what they are given, and the registry of what they do.
//!
//! Declared once as types, so that the workflow that calls and the shell that acts can't disagree.

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

/// Something that a workflow may do to the world. A changed meaning is a new name (`claim_host_v2`), and the old one
/// stays until no workflow calls it.
pub trait Activity: Copy + Send + Sync + 'static {
    /// The name in histories and step keys.
    const NAME: &'static str;
    /// Limits and tries.
    const RETRY: Retry = Retry::DEFAULT;
    /// What it is given: ids, never secrets.
    type Input: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What it answers: ids, never secrets.
    type Output: Serialize + DeserializeOwned + Send + 'static;
}

/// The engine's side of an [`ActivityContext`].
pub trait Pulse: Send + Sync + 'static {
    /// Takes a heartbeat.
    fn beat(&self, progress: Box<RawValue>);
    /// Whether the try should end.
    fn is_cancelled(&self) -> bool;
    /// Comes when the try should end.
    fn cancelled(&self) -> BoxFuture<'static, ()>;
}

/// What an activity knows about its try.
#[derive(Clone)]
pub struct ActivityContext {
    workflow_id: Arc<str>,
    key: Arc<str>,
    attempt: u32,
    last: Option<Box<RawValue>>,
    pulse: Arc<dyn Pulse>,
}

impl ActivityContext {
    /// The context of one try.
    pub fn new(workflow_id: &str, call: &ActivityCall, pulse: Arc<dyn Pulse>) -> Self {
        Self {
            workflow_id: workflow_id.into(),
            key: call.key.as_str().into(),
            attempt: call.attempt,
            last: call.last.clone(),
            pulse,
        }
    }

    /// The workflow that calls.
    pub fn workflow_id(&self) -> &str {
        &self.workflow_id
    }

    /// Workflow id + step. Whatever must not happen twice is remembered under it: the same step may run again after a
    /// crash, even when it succeeded.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The number of the try, from 1. A try that a crash interrupted runs again under its number.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Says that the work lives and how far it is. A try that says nothing for its heartbeat limit is given up.
    pub fn heartbeat<P: Serialize>(&self, progress: &P) {
        let text = encode("the heartbeat", progress).unwrap_or_else(|_| "null".to_owned());
        if let Ok(progress) = RawValue::from_string(text) {
            self.pulse.beat(progress);
        }
    }

    /// The last heartbeat of the try before. A hint: after a crash of the process it may be that of an earlier try.
    pub fn last<P: DeserializeOwned>(&self) -> Option<P> {
        self.last
            .as_ref()
            .and_then(|text| serde_json::from_str(text.get()).ok())
    }

    /// Whether the workflow was cancelled: end soon, cleanly.
    pub fn is_cancelled(&self) -> bool {
        self.pulse.is_cancelled()
    }

    /// Comes when the workflow is cancelled.
    pub fn cancelled(&self) -> BoxFuture<'static, ()> {
        self.pulse.cancelled()
    }
}

/// What an activity does, with JSON text on both sides.
pub type Handler = Arc<
    dyn Fn(ActivityContext, String) -> BoxFuture<'static, Result<String, ActivityError>>
        + Send
        + Sync,
>;

/// What each activity does.
#[derive(Clone, Default)]
pub struct Activities {
    handlers: BTreeMap<&'static str, Handler>,
}

impl Activities {
    /// Registers what an activity does; a second registration replaces the first.
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

    /// Puts something around each of them: what `wrap` makes of a name and its handler takes the handler's place.
    #[must_use]
    pub fn around(self, wrap: impl Fn(&'static str, Handler) -> Handler) -> Self {
        let handlers = self.handlers.into_iter();
        Self {
            handlers: handlers
                .map(|(name, handler)| (name, wrap(name, handler)))
                .collect(),
        }
    }

    /// What the named activity does.
    pub fn handler(&self, name: &str) -> Option<Handler> {
        self.handlers.get(name).cloned()
    }

    /// Every registered name.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.handlers.keys().copied()
    }
}
