//! What a workflow undoes when it fails, newest first.
//!
//! A workflow registers an undo before the step that may partly succeed, so an undo must tolerate that nothing was
//! done. A failed undo does not prevent the others: it becomes a [`Leftover`], which the failure shows to a person.

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
    /// Registers an undo, which runs shielded from cancellation.
    pub fn push<F, Fut>(&mut self, name: &'static str, undo: F)
    where
        F: FnOnce(Flow) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), FlowError>> + Send + 'static,
    {
        self.entries
            .push((name, Box::new(move |flow| Box::pin(undo(flow)))));
    }

    /// Runs all undos, newest first, and reports the result of each.
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
