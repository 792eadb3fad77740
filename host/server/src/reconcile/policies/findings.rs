//! The joined answers of a chain's policies on one node: the worst health, all reasons, the incidents that they name.

use std::collections::BTreeSet;

use host_domain::health::{OwnIncident, Verdict, own_category};
use host_domain::node::{ApplicationHealth, Reason, SyncStatus};
use host_runtime::{Health, IncidentNote, Sync};

use crate::catalogue::ActivePolicy;
use crate::guard::Trouble;

/// The joined answers on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeFinding {
    pub(super) verdict: Verdict,
    /// Incidents that they name.
    pub(super) own: Vec<OwnIncident>,
    /// The plugins that evaluated the node in all their uses: incidents that these don't name are over.
    pub(super) judged: BTreeSet<String>,
}

/// The answers so far, policy by policy.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    verdict: Option<Verdict>,
    own: Vec<OwnIncident>,
    judged: BTreeSet<String>,
    failed: BTreeSet<String>,
}

impl Findings {
    /// Joins the answer of one more policy.
    pub(super) fn add(
        &mut self,
        policy: &ActivePolicy,
        answer: Result<host_runtime::Verdict, Trouble>,
    ) {
        let settings = &policy.settings;
        match answer {
            Ok(verdict) => {
                let own_name = policy
                    .plugin
                    .as_ref()
                    .map(|plugin| &*plugin.description().name);
                let own_name = own_name.unwrap_or(&settings.plugin);
                let named = verdict.incidents.iter();
                self.own
                    .extend(named.map(|note| own(&settings.plugin, own_name, note)));
                self.judged.insert(settings.plugin.clone());
                self.join(verdict_of(verdict));
            }
            Err(trouble) => {
                self.failed.insert(settings.plugin.clone());
                self.join(Verdict::unknown(could_not(&settings.name, &trouble)));
            }
        }
    }

    fn join(&mut self, verdict: Verdict) {
        self.verdict = Some(match self.verdict.take() {
            Some(so_far) => so_far.worst(verdict),
            None => verdict,
        });
    }

    pub(super) fn joined(self) -> NodeFinding {
        let nothing = || Verdict::unknown(Reason::new("no_policy", "the chain declares no policy"));
        NodeFinding {
            verdict: self.verdict.unwrap_or_else(nothing),
            own: self.own,
            judged: &self.judged - &self.failed,
        }
    }
}

fn could_not(policy: &str, trouble: &Trouble) -> Reason {
    let pause = if trouble.is_open {
        " (it failed too often in a row and is tried only now and then)"
    } else {
        ""
    };
    let message = format!(
        "policy `{policy}` could not judge: {}{pause}",
        trouble.error
    );
    Reason::new("policy_error", message)
}

fn own(plugin: &str, own_name: &str, note: &IncidentNote) -> OwnIncident {
    OwnIncident {
        plugin: plugin.to_owned(),
        category: own_category(plugin, own_name, &note.category),
        severity: note.severity,
        title: note.title.clone(),
    }
}

fn verdict_of(verdict: host_runtime::Verdict) -> Verdict {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use host_domain::config::observation::PolicyUse;
    use host_domain::incident::Severity;

    use super::*;
    use crate::guard::Guard;

    fn policy(name: &str, plugin: &str) -> ActivePolicy {
        ActivePolicy {
            settings: PolicyUse {
                name: name.to_owned(),
                plugin: plugin.to_owned(),
                window: Duration::ZERO,
                every: Duration::ZERO,
                hold_for: Duration::ZERO,
                with: serde_json::Map::new(),
            },
            plugin: Err("not loaded in this test".to_owned()),
            columns: Vec::new(),
            guard: Guard::default(),
        }
    }

    fn says(health: Health, incident: &str) -> host_runtime::Verdict {
        host_runtime::Verdict {
            health,
            sync: Sync::Synced,
            reasons: Vec::new(),
            incidents: vec![IncidentNote {
                category: incident.to_owned(),
                severity: Severity::Warning,
                title: "look".to_owned(),
            }],
        }
    }

    fn trouble() -> Trouble {
        Trouble {
            is_open: true,
            ..Trouble::broken("trapped")
        }
    }

    #[test]
    fn a_policy_that_fails_leaves_the_others_their_word() {
        let mut findings = Findings::default();
        findings.add(&policy("one", "bad"), Err(trouble()));
        findings.add(&policy("two", "good"), Ok(says(Health::Degraded, "fork")));
        let finding = findings.joined();
        assert_eq!(finding.verdict.health, ApplicationHealth::Degraded);
        assert_eq!(
            finding.verdict.reasons.len(),
            1,
            "{:?}",
            finding.verdict.reasons
        );
        let reason = &finding.verdict.reasons[0];
        assert_eq!(reason.code, "policy_error");
        assert!(reason.message.contains("`one`") && reason.message.contains("now and then"));
        assert_eq!(finding.own[0].category, "x-good-fork");
        assert_eq!(finding.judged, BTreeSet::from(["good".to_owned()]));
    }

    #[test]
    fn a_plugin_that_failed_in_one_of_its_uses_has_not_judged() {
        let mut findings = Findings::default();
        findings.add(&policy("one", "p"), Ok(says(Health::Ok, "fork")));
        findings.add(&policy("two", "p"), Err(trouble()));
        assert_eq!(findings.joined().judged, BTreeSet::new());
    }

    #[test]
    fn a_chain_without_policies_says_so() {
        let finding = Findings::default().joined();
        assert_eq!(finding.verdict.health, ApplicationHealth::Unknown);
        assert_eq!(finding.verdict.reasons[0].code, "no_policy");
    }
}
