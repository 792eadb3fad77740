//! Applies verdicts: to each node's track of health, its dimensions, and its incidents, many nodes in one transaction and only
//! if something changed.

use std::collections::BTreeSet;

use host_domain::health::{HealthChange, HealthTrack, OwnChange, OwnIncident};
use host_domain::incident::{Cause, Severity, SubjectKind, category};
use host_domain::node::{ApplicationHealth, Node, NodeEvent, NodeState, Reason, SyncStatus};
use host_domain::notification::node_labels;

use super::Round;
use super::findings::NodeFinding;
use crate::ops::{Change, OpError, Subject, change_nodes, raise, resolve};
use host_store::{FoundHealth, JudgedNode, Tx};

/// What a verdict changes.
pub(super) struct Effect<'a> {
    judged: &'a JudgedNode,
    /// Reasons of the newest verdict, whether it counts yet or not.
    reasons: &'a [Reason],
    track: HealthTrack,
    change: HealthChange,
    /// Changes of the node itself; `None` when it stays.
    node_change: Option<Change>,
    own: Vec<OwnChange>,
}

impl Effect<'_> {
    fn found_health(&self) -> FoundHealth<'_> {
        FoundHealth {
            node_id: self.judged.node.id,
            seen_version: self.judged.health_version,
            track: &self.track,
            verdict_reasons: self.reasons,
        }
    }
}

impl Round<'_> {
    /// Writes the effects of several verdicts; all of them or none.
    pub(super) async fn apply(&self, effects: &[Effect<'_>]) -> Result<(), OpError> {
        let mut tx = self.evaluator.records.db.begin().await?;
        let found: Vec<_> = effects.iter().map(Effect::found_health).collect();
        tx.save_health_tracks(&found).await?;
        let changes = effects
            .iter()
            .filter_map(|effect| Some((&effect.judged.node, effect.node_change.clone()?)));
        change_nodes(&mut tx, changes, self.now).await?;
        for effect in effects {
            let node = &effect.judged.node;
            if let Some(is_flapping) = effect.change.flapping {
                self.report_flapping(&mut tx, node, is_flapping).await?;
            }
            for own in &effect.own {
                self.report_own(&mut tx, node, own, effect.reasons).await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }

    /// `None` when nothing is worth a write.
    pub(super) fn effect<'n>(
        &self,
        judged: &'n JudgedNode,
        finding: &'n NodeFinding,
    ) -> Option<Effect<'n>> {
        let (node, verdict) = (&judged.node, &finding.verdict);
        let mut track = judged.track.clone();
        let change = track.take(verdict, self.now, self.hold);
        let by: BTreeSet<&str> = finding.judged.iter().map(String::as_str).collect();
        let own = track.own.take(&finding.own, &by, self.now, self.hold);
        // Reasons of a health that does not count yet are not the node's.
        let counts = verdict.health == track.health;
        let reasons = (counts && verdict.reasons != node.reasons).then(|| verdict.reasons.clone());
        let event = state_event(node.condition.state, track.health, track.sync);
        let has_moved = change.health.is_some() || change.sync.is_some() || event.is_some();
        let reason_codes_changed = reasons
            .as_ref()
            .is_some_and(|new| codes(new) != codes(&node.reasons));
        let is_of_node = has_moved || reason_codes_changed;
        if track == judged.track && !is_of_node {
            return None;
        }
        let node_change = is_of_node.then_some(Change {
            event,
            application_health: change.health,
            sync_status: change.sync,
            reasons,
        });
        Some(Effect {
            judged,
            reasons: &verdict.reasons,
            track,
            change,
            node_change,
            own,
        })
    }

    async fn report_flapping(
        &self,
        tx: &mut Tx,
        node: &Node,
        is_flapping: bool,
    ) -> Result<(), OpError> {
        let subject = subject_of(node);
        if !is_flapping {
            return resolve(
                tx,
                self.catalogue,
                &subject,
                category::NODE_FLAPPING,
                self.now,
            )
            .await;
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
        raise(tx, self.catalogue, &subject, &cause, self.now)
            .await
            .map(drop)
    }

    /// An incident that a policy named, or names no more.
    async fn report_own(
        &self,
        tx: &mut Tx,
        node: &Node,
        change: &OwnChange,
        reasons: &[Reason],
    ) -> Result<(), OpError> {
        let subject = subject_of(node);
        match change {
            OwnChange::Raise(named) => {
                let cause = cause_of(named, &node.name, reasons);
                raise(tx, self.catalogue, &subject, &cause, self.now)
                    .await
                    .map(drop)
            }
            OwnChange::Resolve(category) => {
                resolve(tx, self.catalogue, &subject, category, self.now).await
            }
        }
    }
}

fn subject_of(node: &Node) -> Subject {
    Subject {
        kind: SubjectKind::Node,
        id: node.id.to_string(),
        name: node.name.clone(),
        labels: node_labels(&node.chain_profile_id, &node.node_type),
    }
}

fn cause_of(named: &OwnIncident, node: &str, reasons: &[Reason]) -> Cause {
    Cause {
        category: named.category.clone(),
        severity: named.severity,
        title: format!("{node}: {}", named.title),
        reasons: reasons.to_vec(),
    }
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

    #[test]
    fn only_codes_of_reasons_are_compared() {
        let at = |seconds: u32| Reason::new("height_stalled", format!("no block for {seconds} s"));
        assert_eq!(codes(&[at(1)]), codes(&[at(2)]));
        assert_ne!(codes(&[at(1)]), codes(&[]));
    }
}
