//! Incidents that a policy raises itself, besides those that follow from a node's health.
//!
//! They are stored with the node's health and not in the evaluator, so that neither a restart nor a reload resolves
//! or repeats one. Only a policy that judged the node can raise or resolve its incidents.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::incident::Severity;
use crate::time::Millis;

/// An incident that a policy reports for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnIncident {
    /// The plugin, as the chain calls it.
    pub plugin: String,
    /// From [`own_category`].
    pub category: String,
    /// Its severity.
    pub severity: Severity,
    /// One line for people.
    pub title: String,
}

/// The category of a plugin's own incident: `x-<plugin>-<name>`, with the name that the chain gives the plugin. A
/// plugin may write the prefix itself, with that name or with its own.
pub fn own_category(plugin: &str, own_name: &str, said: &str) -> String {
    let stripped = [plugin, own_name]
        .iter()
        .find_map(|name| said.strip_prefix(&format!("x-{name}-")));
    format!("x-{plugin}-{}", stripped.unwrap_or(said))
}

/// The own incidents of one node, by category.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnIncidents(BTreeMap<String, Held>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    plugin: String,
    /// The raised severity; `None` before the incident is raised.
    severity: Option<Severity>,
    /// Since when the policy has reported a different state without interruption.
    since: Option<Millis>,
}

/// What to do about an own incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnChange {
    /// The incident is new or has another severity.
    Raise(OwnIncident),
    /// The incident of this category is over.
    Resolve(String),
}

impl OwnIncidents {
    /// Applies what the policies report. Only plugins in `judged` can end an incident; a change takes effect after
    /// `hold`.
    pub fn take(
        &mut self,
        named: &[OwnIncident],
        judged: &BTreeSet<&str>,
        now: Millis,
        hold: Duration,
    ) -> Vec<OwnChange> {
        let mut changes = Vec::new();
        let worst = worst(named);
        for (category, incident) in &worst {
            let held = self.0.entry((*category).to_owned()).or_insert(Held {
                plugin: incident.plugin.clone(),
                severity: None,
                since: None,
            });
            if held.severity == Some(incident.severity) {
                held.since = None;
            } else if held.has_held(now, hold) {
                held.severity = Some(incident.severity);
                held.since = None;
                changes.push(OwnChange::Raise((*incident).clone()));
            }
        }
        self.0.retain(|category, held| {
            let is_unsaid =
                judged.contains(held.plugin.as_str()) && !worst.contains_key(category.as_str());
            if !is_unsaid {
                return true;
            }
            if held.severity.is_some() {
                if !held.has_held(now, hold) {
                    return true;
                }
                changes.push(OwnChange::Resolve(category.clone()));
            }
            false
        });
        changes
    }
}

impl Held {
    fn has_held(&mut self, now: Millis, hold: Duration) -> bool {
        now.since(*self.since.get_or_insert(now)) >= hold
    }
}

/// When two uses of a plugin report the same category, the worse one counts.
fn worst(named: &[OwnIncident]) -> BTreeMap<&str, &OwnIncident> {
    let mut worst: BTreeMap<&str, &OwnIncident> = BTreeMap::new();
    for incident in named {
        let entry = worst.entry(&incident.category).or_insert(incident);
        if incident.severity > entry.severity {
            *entry = incident;
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_HOLD: Duration = Duration::ZERO;

    fn named(severity: Severity) -> OwnIncident {
        OwnIncident {
            plugin: "progress".to_owned(),
            category: "x-progress-fork".to_owned(),
            severity,
            title: "two heads".to_owned(),
        }
    }

    fn at(seconds: i64) -> Millis {
        Millis(seconds * 1_000)
    }

    fn resolved() -> Vec<OwnChange> {
        vec![OwnChange::Resolve("x-progress-fork".to_owned())]
    }

    #[test]
    fn a_category_carries_the_name_that_the_chain_gives_the_plugin() {
        for said in ["fork", "x-heights-fork", "x-progress-fork"] {
            assert_eq!(own_category("heights", "progress", said), "x-heights-fork");
        }
        // A plugin can't raise the host's own categories.
        assert_eq!(own_category("p", "p", "node_down"), "x-p-node_down");
    }

    #[test]
    fn it_is_raised_once_and_resolved_when_its_plugin_names_it_no_more() {
        let mut own = OwnIncidents::default();
        let judged = BTreeSet::from(["progress"]);
        let warning = named(Severity::Warning);
        let said = std::slice::from_ref(&warning);
        assert_eq!(
            own.take(said, &judged, at(0), NO_HOLD),
            [OwnChange::Raise(warning.clone())]
        );
        assert_eq!(own.take(said, &judged, at(1), NO_HOLD), []);
        let critical = named(Severity::Critical);
        let both = [warning.clone(), critical.clone()];
        assert_eq!(
            own.take(&both, &judged, at(2), NO_HOLD),
            [OwnChange::Raise(critical)]
        );
        assert_eq!(own.take(&[], &judged, at(3), NO_HOLD), resolved());
        assert_eq!(own, OwnIncidents::default());
    }

    #[test]
    fn a_plugin_that_did_not_judge_ends_nothing() {
        let mut own = OwnIncidents::default();
        let judged = BTreeSet::from(["progress"]);
        own.take(&[named(Severity::Info)], &judged, at(0), NO_HOLD);
        let before = own.clone();
        assert_eq!(own.take(&[], &BTreeSet::new(), at(1), NO_HOLD), []);
        assert_eq!(
            own.take(&[], &BTreeSet::from(["other"]), at(2), NO_HOLD),
            []
        );
        assert_eq!(own, before);
    }

    #[test]
    fn both_changes_have_to_hold() {
        let mut own = OwnIncidents::default();
        let judged = BTreeSet::from(["progress"]);
        let hold = Duration::from_secs(10);
        let said = [named(Severity::Info)];
        assert_eq!(own.take(&said, &judged, at(0), hold), []);
        assert_eq!(own.take(&[], &judged, at(5), hold), [], "a break");
        assert_eq!(own.take(&said, &judged, at(6), hold), []);
        assert_eq!(own.take(&said, &judged, at(16), hold).len(), 1);
        assert_eq!(own.take(&[], &judged, at(17), hold), []);
        assert_eq!(
            own.take(&said, &judged, at(18), hold),
            [],
            "reported again in time"
        );
        assert_eq!(own.take(&[], &judged, at(20), hold), []);
        assert_eq!(own.take(&[], &judged, at(30), hold), resolved());
    }
}
