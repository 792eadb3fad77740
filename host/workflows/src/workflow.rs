//! Defines what a workflow is, and the registry of all workflows.
//!
//! A running workflow continues with the code that it started with: changed code is a new version, registered beside
//! the old one until the old version's last workflow has ended.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Failure;
use crate::exchange::{decode, encode};
use crate::flow::Flow;

/// A durable workflow: an async function over the port.
pub trait Workflow: Send + Sync + 'static {
    /// The workflow's name in the engine and in the API.
    const KIND: &'static str;
    /// Semantic version of the code; new workflows use the highest.
    const VERSION: &'static str;
    /// Names of the activities that the workflow calls; an engine does not start without them.
    const ACTIVITIES: &'static [&'static str];
    /// The input: ids, never secrets.
    type Input: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// The result.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Runs the workflow.
    fn run(
        flow: Flow,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Failure>> + Send;
}

/// A workflow's code, with JSON text on both sides.
pub type Runner =
    Arc<dyn Fn(Flow, String) -> BoxFuture<'static, Result<String, Failure>> + Send + Sync>;

/// One registered version of a workflow.
#[derive(Clone)]
pub struct Registered {
    /// Its name.
    pub kind: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The activities that it calls.
    pub activities: &'static [&'static str],
    /// Its code.
    pub run: Runner,
}

/// The workflows that an engine can run.
#[derive(Clone, Default)]
pub struct Workflows {
    entries: Vec<Registered>,
}

impl Workflows {
    /// Every workflow of the product.
    pub fn all() -> Self {
        Self::default()
            .with::<crate::provision_node::ProvisionNode>()
            .with::<crate::terminate_node::TerminateNode>()
            .with::<crate::migrate_node::MigrateNode>()
    }

    /// Adds a workflow.
    #[must_use]
    pub fn with<W: Workflow>(mut self) -> Self {
        let run: Runner = Arc::new(|flow, input| {
            Box::pin(async move {
                let input = decode(&format!("the input of `{}`", W::KIND), &input)
                    .map_err(|error| Failure::engine(error.to_string()))?;
                let output = W::run(flow, input).await?;
                encode(&format!("the output of `{}`", W::KIND), &output)
                    .map_err(|error| Failure::engine(error.to_string()))
            })
        });
        self.entries.push(Registered {
            kind: W::KIND,
            version: W::VERSION,
            activities: W::ACTIVITIES,
            run,
        });
        self
    }

    /// All registered versions.
    pub fn iter(&self) -> impl Iterator<Item = &Registered> {
        self.entries.iter()
    }

    /// The newest registered code of a kind; later registrations are newer.
    pub fn newest(&self, kind: &str) -> Option<&Registered> {
        self.entries.iter().rev().find(|entry| entry.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    struct Made<const MAJOR: u8>;

    impl<const MAJOR: u8> Workflow for Made<MAJOR> {
        const KIND: &'static str = "made";
        const VERSION: &'static str = if MAJOR == 1 { "1.0.0" } else { "2.0.0" };
        const ACTIVITIES: &'static [&'static str] = &[];
        type Input = ();
        type Output = u8;

        async fn run(_: Flow, (): ()) -> Result<u8, Failure> {
            Ok(MAJOR)
        }
    }

    #[test]
    fn new_workflows_take_the_version_that_was_registered_last() {
        let both = Workflows::default().with::<Made<1>>().with::<Made<2>>();
        let versions: Vec<_> = both.iter().map(|one| (one.kind, one.version)).collect();
        assert_eq!(versions, [("made", "1.0.0"), ("made", "2.0.0")]);
        assert_eq!(both.newest("made").map(|one| one.version), Some("2.0.0"));
        assert!(both.newest("unknown").is_none());
    }

    #[test]
    fn each_workflow_has_one_version_until_there_is_a_release() {
        let all = Workflows::all();
        assert!(all.iter().all(|one| one.version == "1.0.0"));
        let kinds: BTreeSet<_> = all.iter().map(|one| one.kind).collect();
        assert_eq!(kinds.len(), all.iter().count());
    }
}
