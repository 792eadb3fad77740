//! Incidents of plugins: one per plugin that fails, resolved when the plugin works again.
//!
//! Plugins are called all the time, so the host remembers the last recorded state of each: it records a failure immediately, when
//! the breaker opens, and then only from time to time. A restart loses the memory, which costs one more occurrence.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host_domain::incident::{Cause, IncidentState, Severity, category};
use host_domain::node::Reason;
use host_domain::plugin::PluginKind;
use host_domain::time::Millis;

use super::records::Records;
use super::{OpError, Subject, raise, resolve};
use crate::catalogue::Catalogue;
use crate::guard::Trouble;

/// A failure that continues counts as another occurrence this often.
const REPEAT: Duration = Duration::from_mins(5);

/// A plugin by its place in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PluginRef {
    /// The chain that declares it, or `notifications`.
    pub(crate) scope: String,
    /// Its name there.
    pub(crate) plugin: String,
    pub(crate) kind: PluginKind,
}

impl PluginRef {
    pub(crate) fn new(scope: &str, plugin: &str, kind: PluginKind) -> Self {
        Self {
            scope: scope.to_owned(),
            plugin: plugin.to_owned(),
            kind,
        }
    }

    fn subject(&self) -> Subject {
        Subject::plugin(&self.scope, &self.plugin)
    }

    fn category(&self) -> &'static str {
        match self.kind {
            PluginKind::HealthPolicy => category::POLICY_ERROR,
            PluginKind::Collector | PluginKind::Notifier => category::PLUGIN_ERROR,
        }
    }

    fn cause(&self, trouble: &Trouble) -> Cause {
        let (name, error) = (&self.subject().name, &trouble.error);
        let (severity, title) = match self.kind {
            PluginKind::HealthPolicy => (
                Severity::Warning,
                format!("policy plugin {name} can't judge: {error}"),
            ),
            PluginKind::Collector => (
                Severity::Warning,
                format!("collector plugin {name} broke: {error}"),
            ),
            PluginKind::Notifier => (
                Severity::Critical,
                format!("notifier {name} is broken: messages may not arrive"),
            ),
        };
        let mut reasons = vec![Reason::new(&trouble.code, error.clone())];
        if trouble.is_open {
            reasons.push(Reason::new(
                "breaker_open",
                "it failed too often in a row and is tried only now and then",
            ));
        }
        Cause {
            category: self.category().to_owned(),
            severity,
            title,
            reasons,
        }
    }
}

/// The last recorded state of each plugin since startup, one entry per plugin that was ever declared. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct PluginIncidents(Arc<Mutex<BTreeMap<PluginRef, Recorded>>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recorded {
    Working,
    Failing { at: Millis, is_open: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Keep,
    Raise,
    Resolve,
}

/// What to record, given the last recorded state.
fn next_step(recorded: Option<Recorded>, trouble: Option<&Trouble>, now: Millis) -> Step {
    match (recorded, trouble) {
        (Some(Recorded::Working), None) => Step::Keep,
        (Some(Recorded::Failing { .. }) | None, None) => Step::Resolve,
        (Some(Recorded::Failing { at, is_open }), Some(trouble)) => {
            let has_opened = trouble.is_open && !is_open;
            if has_opened || now.since(at) >= REPEAT {
                Step::Raise
            } else {
                Step::Keep
            }
        }
        (Some(Recorded::Working) | None, Some(_)) => Step::Raise,
    }
}

impl PluginIncidents {
    /// Raises or resolves the incident of a plugin. Writes only changes.
    pub(crate) async fn report(
        &self,
        records: &Records,
        catalogue: &Catalogue,
        plugin: &PluginRef,
        trouble: Option<&Trouble>,
    ) -> Result<(), OpError> {
        let now = records.now();
        let recorded = self.get(plugin);
        let next = match next_step(recorded, trouble, now) {
            Step::Keep => return Ok(()),
            Step::Raise => {
                let trouble = trouble.map(|trouble| (trouble, plugin.cause(trouble)));
                let Some((trouble, cause)) = trouble else {
                    return Ok(());
                };
                let mut tx = records.db.begin().await?;
                raise(&mut tx, catalogue, &plugin.subject(), &cause, now).await?;
                tx.commit().await?;
                Recorded::Failing {
                    at: now,
                    is_open: trouble.is_open,
                }
            }
            Step::Resolve => {
                resolve_of_plugin(records, catalogue, plugin, now).await?;
                Recorded::Working
            }
        };
        self.set(plugin, next);
        Ok(())
    }

    fn get(&self, plugin: &PluginRef) -> Option<Recorded> {
        let recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.get(plugin).copied()
    }

    fn set(&self, plugin: &PluginRef, next: Recorded) {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.insert(plugin.clone(), next);
    }
}

/// Commits only if there was an incident to resolve: a commit wakes every loop that waits for changes.
async fn resolve_of_plugin(
    records: &Records,
    catalogue: &Catalogue,
    plugin: &PluginRef,
    now: Millis,
) -> Result<(), OpError> {
    let (subject, category) = (plugin.subject(), plugin.category());
    let mut tx = records.db.begin().await?;
    let newest = tx.newest_incident(&subject.key(category)).await?;
    if newest.is_none_or(|incident| incident.state == IncidentState::Resolved) {
        return Ok(tx.rollback().await?);
    }
    resolve(&mut tx, catalogue, &subject, category, now).await?;
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(is_open: bool) -> Trouble {
        Trouble {
            is_open,
            ..Trouble::broken("trapped")
        }
    }

    #[test]
    fn trouble_is_told_at_once_when_the_breaker_opens_and_then_now_and_then() {
        let told = |is_open| {
            Some(Recorded::Failing {
                at: Millis(0),
                is_open,
            })
        };
        let later = Millis(0).plus(REPEAT);
        for (before, now, then, expected) in [
            (None, trouble(false), Millis(0), Step::Raise),
            (
                Some(Recorded::Working),
                trouble(false),
                Millis(0),
                Step::Raise,
            ),
            (told(false), trouble(false), Millis(1), Step::Keep),
            (told(false), trouble(true), Millis(1), Step::Raise),
            (told(true), trouble(true), Millis(1), Step::Keep),
            (told(true), trouble(false), Millis(1), Step::Keep),
            (told(true), trouble(true), later, Step::Raise),
        ] {
            assert_eq!(next_step(before, Some(&now), then), expected, "{before:?}");
        }
    }

    #[test]
    fn an_end_is_told_once_and_also_after_a_restart() {
        let at = Millis(0);
        let told = Some(Recorded::Failing { at, is_open: true });
        assert_eq!(next_step(told, None, at), Step::Resolve);
        assert_eq!(next_step(None, None, at), Step::Resolve);
        assert_eq!(next_step(Some(Recorded::Working), None, at), Step::Keep);
    }
}
