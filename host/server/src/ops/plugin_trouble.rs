//! Incidents of plugins: one per plugin that breaks, whatever it does, resolved when it works again.
//!
//! Plugins are called all the time, so what was last told of each is remembered: its trouble is written down at once, when its
//! breaker opens, and then only now and then. Losing the memory at a restart costs one more occurrence.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use host_domain::incident::{Cause, IncidentState, Severity, category};
use host_domain::node::Reason;
use host_domain::plugin::PluginKind;
use host_domain::time::Millis;

use super::{OpError, Subject, raise, resolve};
use crate::app::App;
use crate::catalogue::Catalogue;
use crate::guard::Trouble;

/// Trouble that goes on is counted on its incident this often.
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

/// What was told of each plugin since the start; one entry per plugin that was ever declared.
#[derive(Debug, Default)]
pub(crate) struct ToldOfPlugins(Mutex<BTreeMap<PluginRef, Told>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Well,
    Trouble { at: Millis, is_open: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tell {
    Nothing,
    Raise,
    Resolve,
}

/// What is worth telling, given what was told.
fn news(told: Option<Told>, trouble: Option<&Trouble>, now: Millis) -> Tell {
    match (told, trouble) {
        (Some(Told::Well), None) => Tell::Nothing,
        (Some(Told::Trouble { .. }) | None, None) => Tell::Resolve,
        (Some(Told::Trouble { at, is_open }), Some(trouble)) => {
            let has_opened = trouble.is_open && !is_open;
            if has_opened || now.since(at) >= REPEAT {
                Tell::Raise
            } else {
                Tell::Nothing
            }
        }
        (Some(Told::Well) | None, Some(_)) => Tell::Raise,
    }
}

impl App {
    /// Says that a plugin is in trouble, or works. Writes only what is news.
    pub(crate) async fn tell_of_plugin(
        &self,
        catalogue: &Catalogue,
        plugin: &PluginRef,
        trouble: Option<&Trouble>,
    ) -> Result<(), OpError> {
        let now = self.clock.now();
        let told = self.told.get(plugin);
        let next = match news(told, trouble, now) {
            Tell::Nothing => return Ok(()),
            Tell::Raise => {
                let trouble = trouble.map(|trouble| (trouble, plugin.cause(trouble)));
                let Some((trouble, cause)) = trouble else {
                    return Ok(());
                };
                let mut tx = self.db.begin().await?;
                raise(&mut tx, catalogue, &plugin.subject(), &cause, now).await?;
                tx.commit().await?;
                Told::Trouble {
                    at: now,
                    is_open: trouble.is_open,
                }
            }
            Tell::Resolve => {
                self.resolve_of_plugin(catalogue, plugin, now).await?;
                Told::Well
            }
        };
        self.told.set(plugin, next);
        Ok(())
    }

    /// Commits only when there was something to resolve: a commit wakes everybody who waits for changes.
    async fn resolve_of_plugin(
        &self,
        catalogue: &Catalogue,
        plugin: &PluginRef,
        now: Millis,
    ) -> Result<(), OpError> {
        let (subject, category) = (plugin.subject(), plugin.category());
        let mut tx = self.db.begin().await?;
        let newest = tx.newest_incident(&subject.key(category)).await?;
        if newest.is_none_or(|incident| incident.state == IncidentState::Resolved) {
            return Ok(tx.rollback().await?);
        }
        resolve(&mut tx, catalogue, &subject, category, now).await?;
        Ok(tx.commit().await?)
    }
}

impl ToldOfPlugins {
    fn get(&self, plugin: &PluginRef) -> Option<Told> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(plugin).copied()
    }

    fn set(&self, plugin: &PluginRef, next: Told) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(plugin.clone(), next);
    }
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
            Some(Told::Trouble {
                at: Millis(0),
                is_open,
            })
        };
        let later = Millis(0).plus(REPEAT);
        for (before, now, then, expected) in [
            (None, trouble(false), Millis(0), Tell::Raise),
            (Some(Told::Well), trouble(false), Millis(0), Tell::Raise),
            (told(false), trouble(false), Millis(1), Tell::Nothing),
            (told(false), trouble(true), Millis(1), Tell::Raise),
            (told(true), trouble(true), Millis(1), Tell::Nothing),
            (told(true), trouble(false), Millis(1), Tell::Nothing),
            (told(true), trouble(true), later, Tell::Raise),
        ] {
            assert_eq!(news(before, Some(&now), then), expected, "{before:?}");
        }
    }

    #[test]
    fn an_end_is_told_once_and_also_after_a_restart() {
        let at = Millis(0);
        let told = Some(Told::Trouble { at, is_open: true });
        assert_eq!(news(told, None, at), Tell::Resolve);
        assert_eq!(news(None, None, at), Tell::Resolve);
        assert_eq!(news(Some(Told::Well), None, at), Tell::Nothing);
    }
}
