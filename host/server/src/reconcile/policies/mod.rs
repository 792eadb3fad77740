//! Judges nodes by their observations: windows as columns, one call per page of nodes, verdicts through the node machine.
//!
//! A round takes the catalogue once: every node of a round is judged by the same revisions. The policies of a chain are judged
//! together, as often as the most frequent of them asks.

mod apply;
mod judge;
mod said;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use host_domain::health::{Aggregate, SiblingValues, Verdict};
use host_domain::ids::NodeId;
use host_domain::plugin::PluginKind;
use host_domain::time::Millis;
use tokio::sync::Mutex;

use super::in_batches;
use crate::app::App;
use crate::catalogue::{ActivePolicy, Catalogue};
use crate::guard::Trouble;
use crate::ops::{OpError, PluginRef};

/// Nodes that one call of a policy judges (design: plugins.md, Runtime).
const PAGE: u32 = 256;

/// How often the evaluator looks which chains are due; no policy is evaluated more often.
const TICK: Duration = Duration::from_millis(100);

/// When each chain was judged last; losing it costs nothing but a look too many.
type JudgedAt = BTreeMap<String, Millis>;

/// Judges until the app ends.
pub(crate) async fn run(app: App) {
    let judged_at = Arc::new(Mutex::new(JudgedAt::default()));
    super::leading(app, "policies", TICK, move |app| {
        let judged_at = Arc::clone(&judged_at);
        // On the heap: it holds a page of nodes.
        async move { Box::pin(judge_due(app, &mut *judged_at.lock().await)).await }
    })
    .await;
}

/// Judges the chains that are due.
async fn judge_due(app: App, judged_at: &mut JudgedAt) -> Result<(), OpError> {
    let catalogue = app.catalogue();
    for (chain, policies) in &catalogue.policies {
        let now = app.clock.now();
        let Some(every) = policies.iter().map(|policy| policy.settings.every).min() else {
            continue;
        };
        if judged_at
            .get(chain)
            .is_some_and(|at| now.since(*at) < every)
        {
            continue;
        }
        judged_at.insert(chain.clone(), now);
        let mut round = Round::begin(&app, &catalogue, chain).await?;
        while round.next_page().await?.is_some() {}
        round.end().await?;
    }
    Ok(())
}

impl App {
    /// Judges every node of a chain now, however short ago it was judged, and says what was found of each.
    pub async fn judge_now(&self, chain: &str) -> Result<Vec<(NodeId, Verdict)>, OpError> {
        let catalogue = self.catalogue();
        let mut round = Round::begin(self, &catalogue, chain).await?;
        let mut all = Vec::new();
        while let Some(page) = round.next_page().await? {
            all.extend(page);
        }
        round.end().await?;
        Ok(all)
    }
}

/// One look at all nodes of a chain, with the plugins and at the time of its beginning.
struct Round<'a> {
    app: &'a App,
    catalogue: &'a Catalogue,
    chain: &'a str,
    policies: &'a [ActivePolicy],
    now: Millis,
    /// How long a change must hold before it counts: as the most patient policy wants it.
    hold: Duration,
    siblings: BTreeMap<String, SiblingValues>,
    /// The last node that was judged.
    after: Option<NodeId>,
    /// How each plugin did so far.
    seen: BTreeMap<&'a str, Option<Trouble>>,
}

impl<'a> Round<'a> {
    async fn begin(
        app: &'a App,
        catalogue: &'a Catalogue,
        chain: &'a str,
    ) -> Result<Self, OpError> {
        let policies = catalogue.policies.get(chain).map_or(&[][..], Vec::as_slice);
        let hold = policies.iter().map(|policy| policy.settings.hold_for).max();
        let mut round = Self {
            app,
            catalogue,
            chain,
            policies,
            now: app.clock.now(),
            hold: hold.unwrap_or_default(),
            siblings: sibling_values(app, chain, policies).await?,
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

    /// Judges the next nodes; `None` when there are no more.
    async fn next_page(&mut self) -> Result<Option<Vec<(NodeId, Verdict)>>, OpError> {
        let nodes = self
            .app
            .db
            .judged_nodes(self.chain, self.after, PAGE)
            .await?;
        let Some(last) = nodes.last() else {
            return Ok(None);
        };
        self.after = Some(last.node.id);
        let said = self.judge(&nodes).await?;
        let effects: Vec<_> = nodes
            .iter()
            .zip(&said)
            .filter_map(|(judged, said)| self.effect(judged, said))
            .collect();
        in_batches(&effects, |batch| self.apply(batch)).await?;
        let ids = nodes.iter().map(|judged| judged.node.id);
        let verdicts = said.into_iter().map(|said| said.verdict);
        Ok(Some(ids.zip(verdicts).collect()))
    }

    /// A policy that can't judge is an incident of its plugin, never of a node.
    async fn end(self) -> Result<(), OpError> {
        for (plugin, trouble) in &self.seen {
            let plugin = PluginRef::new(self.chain, plugin, PluginKind::HealthPolicy);
            self.app
                .tell_of_plugin(self.catalogue, &plugin, trouble.as_ref())
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
    app: &App,
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
        let nodes = app.db.judged_nodes(chain, after, PAGE).await?;
        let Some(last) = nodes.last() else { break };
        after = Some(last.node.id);
        let ids: Vec<NodeId> = nodes.iter().map(|judged| judged.node.id).collect();
        for (_, latest) in app.db.latest_observations(&ids).await? {
            for name in &names {
                if let Some(value) = latest.get(*name).and_then(|found| found.value.number()) {
                    values.entry((*name).to_owned()).or_default().add(value);
                }
            }
        }
    }
    Ok(values)
}
