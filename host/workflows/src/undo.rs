//! What a workflow will take back when it fails, newest first.
//!
//! An undo is registered before the step that may half succeed, so it must tolerate that nothing was done. A failing
//! undo does not keep the others from running: it becomes a [`Leftover`], which the failure carries to a person.

use std::future::Future;

use futures_util::future::BoxFuture;

use crate::error::{FlowError, Leftover};
use crate::flow::Flow;

type Undo = Box<dyn FnOnce(Flow) -> BoxFuture<'static, Result<(), FlowError>> + Send>;

/// The undos of a running workflow.
#[derive(Default)]
pub struct Undos {
    entries: Vec<(&'static str, Undo)>,
}

impl Undos {
    /// Registers an undo. It runs shielded from cancelling.
    pub fn push<F, Fut>(&mut self, name: &'static str, undo: F)
    where
        F: FnOnce(Flow) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), FlowError>> + Send + 'static,
    {
        self.entries
            .push((name, Box::new(move |flow| Box::pin(undo(flow)))));
    }

    /// Runs all, newest first, and tells of each how it went.
    pub async fn unwind<R, Fut>(self, flow: &Flow, mut report: R) -> Vec<Leftover>
    where
        R: FnMut(&'static str, Option<String>) -> Fut,
        Fut: Future<Output = ()>,
    {
        let mut leftovers = Vec::new();
        for (name, undo) in self.entries.into_iter().rev() {
            let outcome = undo(flow.shielded()).await;
            let problem = outcome.err().map(|error| error.to_string());
            report(name, problem.clone()).await;
            if let Some(message) = problem {
                leftovers.push(Leftover {
                    undo: name.to_owned(),
                    message,
                });
            }
        }
        leftovers
    }
}
