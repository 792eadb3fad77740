//! Judges nodes by their observations: windows as columns, one call per chunk of nodes, verdicts through the node machine.
//!
//! A tick takes the catalogue once: every node of a tick is judged by the same revision. The policies of a chain are judged
//! together, as often as the most frequent of them asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use host_domain::health::{Column, HealthTrack, Sample, SiblingValues, Verdict};
use host_domain::ids::NodeId;
use host_domain::incident::{Cause, Severity, SubjectKind, category};
use host_domain::node::{ApplicationHealth, Node, NodeEvent, NodeState, Reason, SyncStatus};
use host_domain::notification::node_labels;
use host_domain::time::Millis;
use host_runtime::Sheet;
use tokio::sync::Mutex;

use crate::app::App;
use crate::catalogue::{ActivePolicy, Catalogue};
use crate::ops::{Change, OpError, Subject, change_node, raise, resolve};
use crate::store::JudgedNode;

/// Nodes that one call of a policy judges (design: plugins.md, Runtime).
const CHUNK: u32 = 256;
/// Samples of one node and name that a window holds; the newest count.
const SAMPLES_MAX: u32 = 2_000;
/// A policy that goes on failing is counted on its incident this often.
const REPEAT_FAILURE: Duration = Duration::from_mins(1);

/// What the evaluator remembers between ticks; losing it costs nothing but a repeated look.
#[derive(Default)]
struct Memory {
    judged_at: BTreeMap<String, Millis>,
    failing_since: BTreeMap<(String, String), Millis>,
    known_well: BTreeSet<(String, String)>,
}

/// How often the evaluator looks which chains are due; no policy is evaluated more often.
const TICK: Duration = Duration::from_millis(100);

/// Judges until the app ends.
pub(crate) async fn run(app: App) {
    let memory = Arc::new(Mutex::new(Memory::default()));
    super::every(app, "policies", TICK, move |app| {
        let memory = Arc::clone(&memory);
        async move { round(app, &mut *memory.lock().await).await }
    })
    .await;
}

/// One round over the chains that are due.
async fn round(app: App, memory: &mut Memory) -> Result<(), OpError> {
    let catalogue = app.catalogue();
    for (chain, policies) in &catalogue.policies {
        let now = app.clock.now();
        let Some(every) = policies.iter().map(|policy| policy.settings.every).min() else {
            continue;
        };
        if memory
            .judged_at
            .get(chain)
            .is_some_and(|at| now.since(*at) < every)
        {
            continue;
        }
        memory.judged_at.insert(chain.clone(), now);
        judge_chain(&app, &catalogue, chain, policies, memory).await?;
    }
    Ok(())
}

async fn judge_chain(
    app: &App,
    catalogue: &Catalogue,
    chain: &str,
    policies: &[ActivePolicy],
    memory: &mut Memory,
) -> Result<(), OpError> {
    let now = app.clock.now();
    let siblings = sibling_values(app, chain, policies).await?;
    let hold = policies
        .iter()
        .map(|policy| policy.settings.hold_for)
        .max()
        .unwrap_or_default();
    let mut failures: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut after: Option<NodeId> = None;
    loop {
        let nodes = app.db.judged_nodes(chain, after, CHUNK).await?;
        let Some(last) = nodes.last() else { break };
        after = Some(last.node.id);
        let verdicts = judge_chunk(app, policies, &nodes, &siblings, now, &mut failures).await?;
        for (judged, verdict) in nodes.iter().zip(verdicts) {
            match apply(app, catalogue, judged, &verdict, now, hold).await {
                Ok(()) | Err(OpError::Stale { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    for (plugin, failure) in failures {
        tell_of_plugin(app, catalogue, (chain.to_owned(), plugin), failure, memory).await?;
    }
    Ok(())
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
        .filter(|column| column.aggregate == host_domain::health::Aggregate::MaxSiblings)
        .map(|column| column.observation.as_str())
        .collect();
    let mut values: BTreeMap<String, SiblingValues> = BTreeMap::new();
    let mut after: Option<NodeId> = None;
    while !names.is_empty() {
        let nodes = app.db.judged_nodes(chain, after, CHUNK).await?;
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

/// The joined verdict of each node. `failures` learns of each plugin whether it could judge.
async fn judge_chunk(
    app: &App,
    policies: &[ActivePolicy],
    nodes: &[JudgedNode],
    siblings: &BTreeMap<String, SiblingValues>,
    now: Millis,
    failures: &mut BTreeMap<String, Option<String>>,
) -> Result<Vec<Verdict>, OpError> {
    let mut joined: Vec<Option<Verdict>> = vec![None; nodes.len()];
    for policy in policies {
        let verdicts = match &policy.plugin {
            Ok(plugin) => {
                let sheet = sheet_of(app, policy, nodes, siblings, now).await?;
                plugin.evaluate_all(&sheet).await
            }
            Err(reason) => {
                note(failures, &policy.settings.plugin, Some(reason.clone()));
                for joined in &mut joined {
                    add(
                        joined,
                        Verdict::unknown(policy_error(&policy.settings.name, reason)),
                    );
                }
                continue;
            }
        };
        for (joined, verdict) in joined.iter_mut().zip(verdicts) {
            let verdict = match verdict {
                Ok(verdict) => {
                    note(failures, &policy.settings.plugin, None);
                    domain_verdict(verdict)
                }
                Err(error) => {
                    let text = error.to_string();
                    note(failures, &policy.settings.plugin, Some(text.clone()));
                    Verdict::unknown(policy_error(&policy.settings.name, &text))
                }
            };
            add(joined, verdict);
        }
    }
    let nothing = || Verdict::unknown(Reason::new("no_policy", "the chain declares no policy"));
    Ok(joined
        .into_iter()
        .map(|verdict| verdict.unwrap_or_else(nothing))
        .collect())
}

fn add(joined: &mut Option<Verdict>, verdict: Verdict) {
    *joined = Some(match joined.take() {
        Some(so_far) => so_far.worst(verdict),
        None => verdict,
    });
}

/// One failed row makes the plugin a failing one for this tick.
fn note(failures: &mut BTreeMap<String, Option<String>>, plugin: &str, failure: Option<String>) {
    let entry = failures.entry(plugin.to_owned()).or_default();
    if entry.is_none() {
        *entry = failure;
    }
}

fn policy_error(policy: &str, text: &str) -> Reason {
    Reason::new(
        "policy_error",
        format!("policy `{policy}` could not judge: {text}"),
    )
}

async fn sheet_of(
    app: &App,
    policy: &ActivePolicy,
    nodes: &[JudgedNode],
    siblings: &BTreeMap<String, SiblingValues>,
    now: Millis,
) -> Result<Sheet, OpError> {
    let ids: Vec<NodeId> = nodes.iter().map(|judged| judged.node.id).collect();
    let names: BTreeSet<&str> = policy
        .columns
        .iter()
        .map(|column| column.observation.as_str())
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    let window = policy.settings.window;
    let longest = policy
        .columns
        .iter()
        .filter_map(|column| column.window)
        .max()
        .unwrap_or(window)
        .max(window);
    let mut windows = app
        .db
        .windows(&ids, &names, now.minus(longest), SAMPLES_MAX)
        .await?;
    let none = SiblingValues::default();
    let no_samples: Vec<Sample> = Vec::new();
    let rows = ids.iter().map(|id| {
        let samples = windows.remove(id).unwrap_or_default();
        let value = |column: &Column| {
            let samples = samples.get(&column.observation).unwrap_or(&no_samples);
            let siblings = siblings.get(&column.observation).unwrap_or(&none);
            column.compute(samples, siblings, now, window)
        };
        policy.columns.iter().map(value).collect()
    });
    Ok(Sheet {
        now,
        names: policy.columns.iter().map(ToString::to_string).collect(),
        rows: rows.collect(),
    })
}

fn domain_verdict(verdict: host_runtime::Verdict) -> Verdict {
    use host_runtime::{Health, Sync};
    Verdict {
        health: match verdict.health {
            Health::Ok => ApplicationHealth::Ok,
            Health::Degraded => ApplicationHealth::Degraded,
            Health::Critical => ApplicationHealth::Critical,
        },
        sync: match verdict.sync {
            Sync::Unknown => SyncStatus::Unknown,
            Sync::Syncing => SyncStatus::Syncing,
            Sync::Synced => SyncStatus::Synced,
        },
        reasons: verdict.reasons,
    }
}

async fn apply(
    app: &App,
    catalogue: &Catalogue,
    judged: &JudgedNode,
    verdict: &Verdict,
    now: Millis,
    hold: Duration,
) -> Result<(), OpError> {
    let mut track: HealthTrack = judged.track.clone();
    let change = track.take(verdict, now, hold);
    let node = &judged.node;
    // Reasons of a health that does not count yet are not the node's.
    let counts = verdict.health == track.health;
    let reasons = (counts && verdict.reasons != node.reasons).then(|| verdict.reasons.clone());
    let event = state_event(node.condition.state, track.health, track.sync);
    let has_moved = change.health.is_some() || change.sync.is_some() || event.is_some();
    let reason_codes_changed = reasons
        .as_ref()
        .is_some_and(|new| codes(new) != codes(&node.reasons));
    if track == judged.track && !has_moved && !reason_codes_changed {
        return Ok(());
    }
    let mut tx = app.db.begin().await?;
    tx.save_health_track(node.id, judged.health_version, &track, &verdict.reasons)
        .await?
        .ok_or_else(|| OpError::stale("node", node.id))?;
    if has_moved || reason_codes_changed {
        let asked = Change {
            event,
            application_health: change.health,
            sync_status: change.sync,
            reasons,
        };
        change_node(&mut tx, node, asked, now).await?;
    }
    if let Some(is_flapping) = change.flapping {
        tell_of_flapping(&mut tx, catalogue, node, is_flapping, now).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Messages carry seconds and heights that change with every tick; only a change of codes is worth a write.
fn codes(reasons: &[Reason]) -> Vec<&str> {
    reasons.iter().map(|reason| reason.code.as_str()).collect()
}

/// What the verdict means for the life cycle: in sync and well is `healthy`, well but behind is `syncing`.
fn state_event(state: NodeState, health: ApplicationHealth, sync: SyncStatus) -> Option<NodeEvent> {
    match (state, health, sync) {
        (NodeState::Syncing, ApplicationHealth::Ok, SyncStatus::Synced) => {
            Some(NodeEvent::SyncCompleted)
        }
        (
            NodeState::Healthy,
            ApplicationHealth::Ok | ApplicationHealth::Degraded,
            SyncStatus::Syncing,
        ) => Some(NodeEvent::SyncLost),
        _ => None,
    }
}

async fn tell_of_flapping(
    tx: &mut crate::store::Tx,
    catalogue: &Catalogue,
    node: &Node,
    is_flapping: bool,
    now: Millis,
) -> Result<(), OpError> {
    let subject = Subject {
        kind: SubjectKind::Node,
        id: node.id.to_string(),
        name: node.name.clone(),
        labels: node_labels(&node.chain_profile_id, &node.node_type),
    };
    if !is_flapping {
        return resolve(tx, catalogue, &subject, category::NODE_FLAPPING, now).await;
    }
    let cause = Cause {
        category: category::NODE_FLAPPING.to_owned(),
        severity: Severity::Warning,
        title: format!(
            "{} changes its health too often and is held at its worst",
            node.name
        ),
        reasons: node.reasons.clone(),
    };
    raise(tx, catalogue, &subject, &cause, now).await.map(drop)
}

/// A policy that can't judge is an incident of the plugin, never of a node.
async fn tell_of_plugin(
    app: &App,
    catalogue: &Catalogue,
    key: (String, String),
    failure: Option<String>,
    memory: &mut Memory,
) -> Result<(), OpError> {
    let now = app.clock.now();
    let subject = Subject::plugin(&key.0, &key.1);
    let Some(failure) = failure else {
        if memory.known_well.insert(key.clone()) {
            memory.failing_since.remove(&key);
            let mut tx = app.db.begin().await?;
            resolve(&mut tx, catalogue, &subject, category::POLICY_ERROR, now).await?;
            tx.commit().await?;
        }
        return Ok(());
    };
    memory.known_well.remove(&key);
    if memory
        .failing_since
        .get(&key)
        .is_some_and(|told| now.since(*told) < REPEAT_FAILURE)
    {
        return Ok(());
    }
    memory.failing_since.insert(key, now);
    let cause = Cause {
        category: category::POLICY_ERROR.to_owned(),
        severity: Severity::Warning,
        title: format!("policy plugin {} can't judge: {failure}", subject.name),
        reasons: vec![Reason::new("policy_error", failure)],
    };
    let mut tx = app.db.begin().await?;
    raise(&mut tx, catalogue, &subject, &cause, now).await?;
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_moves_the_life_cycle_only_when_it_says_so() {
        use {ApplicationHealth as H, NodeEvent as E, NodeState as S, SyncStatus as Y};
        for (state, health, sync, expected) in [
            (S::Syncing, H::Ok, Y::Synced, Some(E::SyncCompleted)),
            (S::Syncing, H::Critical, Y::Synced, None),
            (S::Syncing, H::Ok, Y::Unknown, None),
            (S::Healthy, H::Ok, Y::Syncing, Some(E::SyncLost)),
            // A stalled node is critical where people look, not hidden behind `syncing`.
            (S::Healthy, H::Critical, Y::Syncing, None),
            (S::Degraded, H::Ok, Y::Synced, None),
            (S::Healthy, H::Unknown, Y::Unknown, None),
        ] {
            assert_eq!(
                state_event(state, health, sync),
                expected,
                "{state} {health} {sync}"
            );
        }
    }
}
