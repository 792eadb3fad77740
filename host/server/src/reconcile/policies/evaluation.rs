//! Calls every policy of a chain with a page of nodes, each behind its breaker, and joins their answers.

use std::collections::BTreeSet;
use std::time::Duration;

use host_domain::health::{Column, Sample, SiblingValues};
use host_domain::ids::NodeId;
use host_runtime::{CallError, Plugin, Sheet, Verdict};

use super::Round;
use super::findings::{Findings, NodeFinding};
use crate::catalogue::ActivePolicy;
use crate::guard::Trouble;
use crate::ops::OpError;
use host_store::JudgedNode;

/// Samples of one node and name that a window holds; the newest count.
const SAMPLES_MAX: u32 = 2_000;

impl Round<'_> {
    /// The joined answers of all policies on each node, in the order of the nodes.
    pub(super) async fn evaluate(
        &mut self,
        nodes: &[JudgedNode],
    ) -> Result<Vec<NodeFinding>, OpError> {
        let mut joined = vec![Findings::default(); nodes.len()];
        for policy in self.policies {
            let answers = self.answers_of(policy, nodes).await?;
            for (joined, answer) in joined.iter_mut().zip(answers) {
                self.note(policy, answer.as_ref().err().cloned());
                joined.add(policy, answer);
            }
        }
        Ok(joined.into_iter().map(Findings::joined).collect())
    }

    async fn answers_of(
        &self,
        policy: &ActivePolicy,
        nodes: &[JudgedNode],
    ) -> Result<Vec<Result<Verdict, Trouble>>, OpError> {
        let all = |trouble: Trouble| Ok(vec![Err(trouble); nodes.len()]);
        let plugin = match &policy.plugin {
            Ok(plugin) => plugin,
            Err(reason) => return all(Trouble::broken(reason)),
        };
        let sheet = self.sheet(policy, nodes).await?;
        match policy.guard.allow(self.evaluator.records.now()) {
            Ok(()) => Ok(self.call(policy, plugin, &sheet).await),
            Err(kept_away) => all(kept_away.trouble),
        }
    }

    /// Only a call without any verdict is a failure for the breaker: a row that breaks the policy affects only itself.
    async fn call(
        &self,
        policy: &ActivePolicy,
        plugin: &Plugin,
        sheet: &Sheet,
    ) -> Vec<Result<Verdict, Trouble>> {
        let answers = plugin.evaluate_all(sheet).await;
        policy
            .guard
            .report(outcome(&answers), self.evaluator.records.now());
        let is_open = policy.guard.is_open();
        answers
            .into_iter()
            .map(|answer| answer.map_err(|error| Trouble::of(&error, is_open)))
            .collect()
    }

    async fn sheet(&self, policy: &ActivePolicy, nodes: &[JudgedNode]) -> Result<Sheet, OpError> {
        let ids: Vec<NodeId> = nodes.iter().map(|judged| judged.node.id).collect();
        let names: BTreeSet<&str> = policy
            .columns
            .iter()
            .map(|column| column.observation.as_str())
            .collect();
        let names: Vec<&str> = names.into_iter().collect();
        let since = self.now.minus(longest_window(policy));
        let mut windows = self
            .evaluator
            .records
            .db
            .windows(&ids, &names, since, SAMPLES_MAX)
            .await?;
        let none = SiblingValues::default();
        let no_samples: Vec<Sample> = Vec::new();
        let rows = ids.iter().map(|id| {
            let samples = windows.remove(id).unwrap_or_default();
            let value = |column: &Column| {
                let samples = samples.get(&column.observation).unwrap_or(&no_samples);
                let siblings = self.siblings.get(&column.observation).unwrap_or(&none);
                column.compute(samples, siblings, self.now, policy.settings.window)
            };
            policy.columns.iter().map(value).collect()
        });
        Ok(Sheet {
            now: self.now,
            names: policy.columns.iter().map(ToString::to_string).collect(),
            rows: rows.collect(),
        })
    }
}

fn longest_window(policy: &ActivePolicy) -> Duration {
    let windows = policy.columns.iter().filter_map(|column| column.window);
    windows.fold(policy.settings.window, Duration::max)
}

/// The outcome of a call: a success if any row has a verdict, otherwise the error of the first row.
fn outcome(answers: &[Result<Verdict, CallError>]) -> Result<(), &CallError> {
    match answers.first() {
        Some(Err(error)) if answers.iter().all(Result::is_err) => Err(error),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use host_runtime::{Health, Sync};

    use super::*;

    #[test]
    fn a_call_fails_only_when_no_row_was_judged() {
        let judged = || {
            Ok(Verdict {
                health: Health::Ok,
                sync: Sync::Synced,
                reasons: Vec::new(),
                incidents: Vec::new(),
            })
        };
        let failed = || Err(CallError::OutOfStack);
        assert_eq!(outcome(&[failed(), judged()]), Ok(()));
        assert_eq!(outcome(&[judged(), failed()]), Ok(()));
        assert_eq!(outcome(&[]), Ok(()));
        assert_eq!(outcome(&[failed(), failed()]), Err(&CallError::OutOfStack));
    }
}
