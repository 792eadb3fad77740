//! Evaluates nodes by their observations: windows as columns, one call per page of nodes, verdicts through the node state machine.
//!
//! A round takes the catalogue once: the same revisions evaluate every node of a round. The policies of a chain are evaluated
//! together, as often as the most frequent of them requires.

mod apply;
mod evaluation;
mod findings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use host_domain::health::{Aggregate, SiblingValues, Verdict};
use host_domain::ids::NodeId;
use host_domain::plugin::PluginKind;
use host_domain::time::Millis;
use tokio::sync::Mutex;

use super::in_batches;
use super::loops::{Loop, Pace};
use crate::catalogue::{ActivePolicy, Catalogue};
use crate::guard::Trouble;
use crate::ops::{Chains, OpError, PluginIncidents, PluginRef, Records};
use crate::services::Services;
use host_store::Role;

/// Nodes that one call of a policy evaluates.
const PAGE: u32 = 256;

/// How often the loop checks which chains are due; no policy is evaluated more often.
const TICK: Duration = Duration::from_millis(100);

/// When each chain was evaluated last; losing it costs one evaluation.
type EvaluatedAt = BTreeMap<String, Millis>;

/// Evaluates policies, on the leader.
pub(super) fn policies(services: &Services) -> Loop {
    let (chains, incidents) = (services.chains.clone(), services.plugin_incidents.clone());
    let evaluated_at = Arc::new(Mutex::new(EvaluatedAt::default()));
    Loop::leader("policies", Pace::Every(TICK), move |records| {
        let (chains, incidents) = (chains.clone(), incidents.clone());
        let evaluated_at = Arc::clone(&evaluated_at);
        async move {
            let evaluator = Evaluator {
                records: &records,
                incidents: &incidents,
            };
            let mut evaluated_at = evaluated_at.lock().await;
            evaluator.evaluate_due(&chains, &mut evaluated_at).await
        }
    })
}

/// Evaluates policies outside the loop. Cheap to clone.
#[derive(Clone)]
pub struct Evaluation {
    records: Records,
    chains: Chains,
    incidents: PluginIncidents,
}

impl Evaluation {
    pub(crate) fn of(services: &Services) -> Self {
        Self {
            records: services.records(Role::Api),
            chains: services.chains.clone(),
            incidents: services.plugin_incidents.clone(),
        }
    }

    /// Evaluates every node of a chain now, however recent the last evaluation is, and returns the verdicts.
    pub async fn run(&self, chain: &str) -> Result<Vec<(NodeId, Verdict)>, OpError> {
        let (catalogue, mut all) = (self.chains.catalogue(), Vec::new());
        let evaluator = Evaluator {
            records: &self.records,
            incidents: &self.incidents,
        };
        let mut round = Round::begin(evaluator, &catalogue, chain).await?;
        while let Some(page) = round.next_page().await? {
            all.extend(page);
        }
        round.end().await?;
        Ok(all)
    }
}

/// What evaluates policies.
#[derive(Clone, Copy)]
struct Evaluator<'a> {
    records: &'a Records,
    incidents: &'a PluginIncidents,
}

impl Evaluator<'_> {
    /// Evaluates the chains that are due.
    async fn evaluate_due(
        self,
        chains: &Chains,
        evaluated_at: &mut EvaluatedAt,
    ) -> Result<(), OpError> {
        let catalogue = chains.catalogue();
        for (chain, policies) in &catalogue.policies {
            let now = self.records.now();
            let Some(every) = policies.iter().map(|policy| policy.settings.every).min() else {
                continue;
            };
            if evaluated_at
                .get(chain)
                .is_some_and(|at| now.since(*at) < every)
            {
                continue;
            }
            evaluated_at.insert(chain.clone(), now);
            let mut round = Round::begin(self, &catalogue, chain).await?;
            while round.next_page().await?.is_some() {}
            round.end().await?;
        }
        Ok(())
    }
}

/// One evaluation of all nodes of a chain, with the plugins and at the time of its start.
struct Round<'a> {
    evaluator: Evaluator<'a>,
    catalogue: &'a Catalogue,
    chain: &'a str,
    policies: &'a [ActivePolicy],
    now: Millis,
    /// How long a change must hold before it counts: the longest setting of the policies.
    hold: Duration,
    siblings: BTreeMap<String, SiblingValues>,
    /// The last node that was evaluated.
    after: Option<NodeId>,
    /// The state of each plugin so far.
    seen: BTreeMap<&'a str, Option<Trouble>>,
}

impl<'a> Round<'a> {
    async fn begin(
        evaluator: Evaluator<'a>,
        catalogue: &'a Catalogue,
        chain: &'a str,
    ) -> Result<Self, OpError> {
        let policies = catalogue.policies.get(chain).map_or(&[][..], Vec::as_slice);
        let hold = policies.iter().map(|policy| policy.settings.hold_for).max();
        let mut round = Self {
            evaluator,
            catalogue,
            chain,
            policies,
            now: evaluator.records.now(),
            hold: hold.unwrap_or_default(),
            siblings: sibling_values(evaluator.records, chain, policies).await?,
            after: None,
            seen: BTreeMap::new(),
        };
        for policy in policies {
            // Known to be broken without a node to judge.
            if let Err(reason) = &policy.plugin {
                round.note(policy, Some(Trouble::broken(reason)));
            }
        }
        Ok(round)
    }

    /// Evaluates the next nodes; `None` if there are no more.
    async fn next_page(&mut self) -> Result<Option<Vec<(NodeId, Verdict)>>, OpError> {
        let nodes = self
            .evaluator
            .records
            .db
            .judged_nodes(self.chain, self.after, PAGE)
            .await?;
        let Some(last) = nodes.last() else {
            return Ok(None);
        };
        self.after = Some(last.node.id);
        let findings = self.evaluate(&nodes).await?;
        let effects: Vec<_> = nodes
            .iter()
            .zip(&findings)
            .filter_map(|(judged, finding)| self.effect(judged, finding))
            .collect();
        in_batches(&effects, |batch| self.apply(batch)).await?;
        let ids = nodes.iter().map(|judged| judged.node.id);
        let verdicts = findings.into_iter().map(|finding| finding.verdict);
        Ok(Some(ids.zip(verdicts).collect()))
    }

    /// A policy that fails is an incident of its plugin, never of a node.
    async fn end(self) -> Result<(), OpError> {
        for (plugin, trouble) in &self.seen {
            let plugin = PluginRef::new(self.chain, plugin, PluginKind::HealthPolicy);
            self.evaluator
                .incidents
                .report(
                    self.evaluator.records,
                    self.catalogue,
                    &plugin,
                    trouble.as_ref(),
                )
                .await?;
        }
        Ok(())
    }

    /// One failure makes the plugin a failing one for this round.
    fn note(&mut self, policy: &'a ActivePolicy, trouble: Option<Trouble>) {
        let seen = self.seen.entry(&policy.settings.plugin).or_default();
        if seen.is_none() {
            *seen = trouble;
        }
    }
}

/// The newest values of the whole chain, for the columns that look at siblings.
async fn sibling_values(
    records: &Records,
    chain: &str,
    policies: &[ActivePolicy],
) -> Result<BTreeMap<String, SiblingValues>, OpError> {
    let names: BTreeSet<&str> = policies
        .iter()
        .flat_map(|policy| &policy.columns)
        .filter(|column| column.aggregate == Aggregate::MaxSiblings)
        .map(|column| column.observation.as_str())
        .collect();
    let mut values: BTreeMap<String, SiblingValues> = BTreeMap::new();
    let mut after: Option<NodeId> = None;
    while !names.is_empty() {
        let nodes = records.db.judged_nodes(chain, after, PAGE).await?;
        let Some(last) = nodes.last() else { break };
        after = Some(last.node.id);
        let ids: Vec<NodeId> = nodes.iter().map(|judged| judged.node.id).collect();
        for (_, latest) in records.db.latest_observations(&ids).await? {
            for name in &names {
                if let Some(value) = latest.get(*name).and_then(|found| found.value.number()) {
                    values.entry((*name).to_owned()).or_default().add(value);
                }
            }
        }
    }
    Ok(values)
}
