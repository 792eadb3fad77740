//! Asks every policy of a chain about a page of nodes, each behind its guard, and joins what they say.

use std::collections::BTreeSet;
use std::time::Duration;

use host_domain::health::{Column, Sample, SiblingValues};
use host_domain::ids::NodeId;
use host_runtime::{CallError, Plugin, Sheet, Verdict};

use super::Round;
use super::said::{Joined, Said};
use crate::catalogue::ActivePolicy;
use crate::guard::Trouble;
use crate::ops::OpError;
use host_store::JudgedNode;

/// Samples of one node and name that a window holds; the newest count.
const SAMPLES_MAX: u32 = 2_000;

impl Round<'_> {
    /// What all policies together say of each node, in their order.
    pub(super) async fn judge(&mut self, nodes: &[JudgedNode]) -> Result<Vec<Said>, OpError> {
        let mut joined = vec![Joined::default(); nodes.len()];
        for policy in self.policies {
            let answers = self.ask(policy, nodes).await?;
            for (joined, answer) in joined.iter_mut().zip(answers) {
                self.note(policy, answer.as_ref().err().cloned());
                joined.add(policy, answer);
            }
        }
        Ok(joined.into_iter().map(Joined::done).collect())
    }

    async fn ask(
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
        match policy.guard.allow(self.app.clock.now()) {
            Ok(()) => Ok(self.call(policy, plugin, &sheet).await),
            Err(kept_away) => all(kept_away.trouble),
        }
    }

    /// Only a call that judged no row at all is a failure for the guard: a row that breaks the policy costs itself.
    async fn call(
        &self,
        policy: &ActivePolicy,
        plugin: &Plugin,
        sheet: &Sheet,
    ) -> Vec<Result<Verdict, Trouble>> {
        let answers = plugin.evaluate_all(sheet).await;
        policy.guard.report(outcome(&answers), self.app.clock.now());
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
            .app
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

/// How a call ended: well when any row was judged, else as the first row says.
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
