//! Reads the configuration folder and its plugins, and switches to them as a whole or not at all.
//!
//! Each plugin becomes a revision that is staged, validated, compiled and tried; only when every one is ready does one transaction
//! move the active pointers and one store switch the catalogue, between two ticks of whoever holds it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use host_domain::config::profile::PluginUse;
use host_domain::config::{ChainSet, ValidateOptions, notifications};
use host_domain::ids::RevisionId;
use host_domain::incident::{Cause, Severity, SubjectKind, category};
use host_domain::node::Reason;
use host_domain::notification::{Matcher, Route, Silence};
use host_domain::plugin::{Limits, PluginKind};
use host_domain::revision::{Revision, RevisionState, RevisionTerms};
use host_runtime::{Digest, LoadSpec, Plugin};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::catalogue::{ActiveCollector, ActivePolicy, ActiveReceiver, Catalogue, NOTIFICATIONS};
use crate::chains::{self, ChainFolder};
use crate::ops::{OpError, REVISIONS_KEPT, Subject, raise, resolve};
use crate::store::NewLogEntry;

/// Subject of the incident about a folder that can't be used.
const FOLDER: &str = "chain-configs";

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// The YAML is wrong; the text is the whole report.
    #[error("the configuration folder was not taken over; the one before it goes on:\n{0}")]
    Config(String),
    /// A plugin can't be used.
    #[error("plugin {0}; the configuration before it goes on")]
    Plugin(String),
    /// The database is away.
    #[error("the revisions could not be recorded")]
    Store(#[from] OpError),
}

impl From<crate::store::StoreError> for ReloadError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Store(error.into())
    }
}

/// One use of a plugin: what is loaded is a component with one configuration.
struct Wanted<'a> {
    scope: &'a str,
    name: &'a str,
    kind: PluginKind,
    plugin: &'a PluginUse,
    /// `with` blocks by the name of the use.
    uses: BTreeMap<&'a str, &'a Map<String, Value>>,
    /// The settings around the `with` blocks, for the revision.
    settings: Value,
}

/// A plugin of the next catalogue.
struct Prepared {
    revision: Revision,
    is_new: bool,
    path: PathBuf,
    /// Loaded once per use.
    loaded: BTreeMap<String, Result<Plugin, String>>,
}

impl App {
    /// Reads the folder again. Whatever is wrong with it changes nothing but the incident that tells of it.
    pub(crate) async fn reload_catalogue(&self) -> Result<(), ReloadError> {
        let _one_at_a_time = self.reloading.lock().await;
        let outcome = self.load_and_switch(false).await;
        self.tell_of_folder(outcome.as_ref().err()).await?;
        outcome
    }

    /// Reads the folder at the start of the host. A plugin that can't be loaded is broken, and the rest works.
    pub(crate) async fn load_first_catalogue(&self) -> Result<(), ReloadError> {
        let _one_at_a_time = self.reloading.lock().await;
        self.load_and_switch(true).await
    }

    async fn load_and_switch(&self, tolerate_broken: bool) -> Result<(), ReloadError> {
        let config = &self.config.chains;
        let dir = config.dir.clone();
        let options = ValidateOptions {
            dev: config.allow_undigested,
        };
        let read = move || chains::load_dir(&dir, options);
        let folder = tokio::task::spawn_blocking(read)
            .await
            .map_err(OpError::internal)?;
        let folder = folder.map_err(|errors| ReloadError::Config(errors.to_string()))?;
        let before = self.catalogue();
        if before.version == folder.version && !tolerate_broken {
            return Ok(());
        }
        let mut prepared = BTreeMap::new();
        for wanted in wanted(&folder.set) {
            let plugin = self.prepare(&folder, &wanted, tolerate_broken).await?;
            prepared.insert((wanted.scope.to_owned(), wanted.name.to_owned()), plugin);
        }
        self.activate(&prepared).await?;
        let components = prepared
            .values()
            .map(|plugin| (plugin.revision.digest.clone(), plugin.path.clone()));
        self.components.store(Arc::new(components.collect()));
        self.switch_catalogue(catalogue_of(folder, prepared));
        self.sessions.push_assignments(self.next_generation());
        Ok(())
    }

    /// Stages, validates, compiles and tries one plugin in all its uses.
    async fn prepare(
        &self,
        folder: &ChainFolder,
        wanted: &Wanted<'_>,
        tolerate_broken: bool,
    ) -> Result<Prepared, ReloadError> {
        let path = folder.root.join(&wanted.plugin.component);
        let limits = wanted.plugin.limits.over(&Limits::of(wanted.kind));
        let terms = RevisionTerms {
            config: json!({ "config": wanted.plugin.config, "uses": wanted.settings }),
            grants: wanted.plugin.grants.clone(),
            limits: limits.clone(),
        };
        let digest = folder
            .components
            .get(&wanted.plugin.component)
            .cloned()
            .unwrap_or_default();
        let active = self.db.active_revision(wanted.scope, wanted.name).await?;
        let same = active.filter(|active| active.digest == digest && active.terms == terms);
        let is_new = same.is_none();
        let revision = match same {
            Some(revision) => revision,
            None => self.stage(wanted, &digest, terms).await?,
        };
        let mut prepared = Prepared {
            revision,
            is_new,
            path,
            loaded: BTreeMap::new(),
        };
        for (name, with) in &wanted.uses {
            let spec = LoadSpec {
                name: wanted.name.to_owned(),
                kind: wanted.kind,
                digest: Digest::parse(&digest),
                config: Value::Object(merged(&wanted.plugin.config, with)),
                grants: wanted.plugin.grants.clone(),
                limits: limits.clone(),
            };
            let loaded = self.load_plugin(&prepared.path, spec).await;
            if let Err(reason) = &loaded {
                self.refuse(&mut prepared.revision, reason, tolerate_broken)
                    .await?;
                if !tolerate_broken {
                    let full = format!(
                        "`{}/{}` (use `{name}`): {reason}",
                        wanted.scope, wanted.name
                    );
                    return Err(ReloadError::Plugin(full));
                }
            }
            prepared.loaded.insert((*name).to_owned(), loaded);
        }
        if is_new && prepared.loaded.values().all(Result::is_ok) {
            let description = prepared
                .loaded
                .values()
                .flatten()
                .next()
                .map(Plugin::description);
            prepared.revision.description = description.cloned();
            self.move_revision(&mut prepared.revision, RevisionState::Validated, None)
                .await?;
            self.move_revision(&mut prepared.revision, RevisionState::Ready, None)
                .await?;
        }
        Ok(prepared)
    }

    async fn load_plugin(&self, path: &PathBuf, spec: LoadSpec) -> Result<Plugin, String> {
        let bytes = tokio::fs::read(path).await.map_err(|error| {
            format!(
                "the component {} can't be read ({error}); build it with `bellwether plugin build`",
                path.display()
            )
        })?;
        self.plugins
            .load(bytes, spec)
            .await
            .map_err(|error| error.to_string())
    }

    async fn stage(
        &self,
        wanted: &Wanted<'_>,
        digest: &str,
        terms: RevisionTerms,
    ) -> Result<Revision, ReloadError> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let revision = Revision {
            id: RevisionId(Uuid::now_v7()),
            scope: wanted.scope.to_owned(),
            plugin: wanted.name.to_owned(),
            kind: Some(wanted.kind),
            generation: tx.next_generation(wanted.scope, wanted.name).await?,
            digest: digest.to_owned(),
            terms,
            description: None,
            state: RevisionState::Staged,
            reason: None,
            created_at: now,
            activated_at: None,
        };
        tx.insert_revision(&revision).await?;
        tx.commit().await?;
        Ok(revision)
    }

    /// A new revision is rejected; one that was in use before is broken.
    async fn refuse(
        &self,
        revision: &mut Revision,
        reason: &str,
        tolerate_broken: bool,
    ) -> Result<(), ReloadError> {
        let state = match revision.state {
            RevisionState::Staged => RevisionState::Rejected,
            RevisionState::Active if tolerate_broken => RevisionState::Broken,
            _ => return Ok(()),
        };
        self.move_revision(revision, state, Some(reason)).await
    }

    async fn move_revision(
        &self,
        revision: &mut Revision,
        to: RevisionState,
        reason: Option<&str>,
    ) -> Result<(), ReloadError> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        tx.set_revision_state(revision.id, revision.state, to, reason)
            .await?;
        if let Some(description) = &revision.description {
            tx.set_revision_description(revision.id, description)
                .await?;
        }
        revision.state = to;
        revision.reason = reason.map(str::to_owned);
        if to != RevisionState::Validated {
            tx.append_event_log(revision_event(revision, now));
        }
        tx.commit().await?;
        Ok(())
    }

    /// Moves every active pointer in one transaction.
    async fn activate(
        &self,
        prepared: &BTreeMap<(String, String), Prepared>,
    ) -> Result<(), ReloadError> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        for plugin in prepared.values().filter(|plugin| plugin.is_new) {
            if plugin.revision.state != RevisionState::Ready {
                continue;
            }
            tx.activate_revision(plugin.revision.id, now).await?;
            let (scope, name) = (&plugin.revision.scope, &plugin.revision.plugin);
            tx.prune_revisions(scope, name, REVISIONS_KEPT).await?;
            let active = Revision {
                state: RevisionState::Active,
                ..plugin.revision.clone()
            };
            tx.append_event_log(revision_event(&active, now));
        }
        tx.commit().await?;
        Ok(())
    }

    async fn tell_of_folder(&self, error: Option<&ReloadError>) -> Result<(), ReloadError> {
        let now = self.clock.now();
        let subject = Subject {
            kind: SubjectKind::Plugin,
            id: FOLDER.to_owned(),
            name: FOLDER.to_owned(),
            labels: BTreeMap::new(),
        };
        let catalogue = self.catalogue();
        let mut tx = self.db.begin().await?;
        match error {
            None => {
                resolve(
                    &mut tx,
                    &catalogue,
                    &subject,
                    category::CONFIG_REJECTED,
                    now,
                )
                .await?;
            }
            Some(ReloadError::Store(_)) => return Ok(()),
            Some(error) => {
                let cause = Cause {
                    category: category::CONFIG_REJECTED.to_owned(),
                    severity: Severity::Warning,
                    title: "a change of the configuration folder was rejected".to_owned(),
                    reasons: vec![Reason::new("config_rejected", error.to_string())],
                };
                raise(&mut tx, &catalogue, &subject, &cause, now).await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }
}

fn revision_event(revision: &Revision, now: host_domain::time::Millis) -> NewLogEntry {
    let data = json!({
        "scope": revision.scope, "plugin": revision.plugin, "generation": revision.generation,
        "digest": revision.digest, "state": revision.state, "reason": revision.reason,
    });
    let chain = (revision.scope != NOTIFICATIONS).then(|| revision.scope.clone());
    NewLogEntry {
        kind: "plugin".to_owned(),
        node_id: None,
        chain,
        at: now,
        payload: data,
    }
}

/// Every plugin that something uses, with all its uses.
fn wanted(chains: &ChainSet) -> Vec<Wanted<'_>> {
    let mut all = Vec::new();
    for (scope, chain) in &chains.chains {
        for (name, kind, plugin) in chain.plugin_uses() {
            let observation = &chain.observation;
            let collectors = observation
                .collectors
                .iter()
                .filter(|used| used.plugin == name);
            let policies = observation
                .policies
                .iter()
                .filter(|used| used.plugin == name);
            let settings = json!({
                "collectors": collectors.clone().collect::<Vec<_>>(),
                "policies": policies.clone().collect::<Vec<_>>(),
            });
            let uses = collectors
                .map(|used| (used.name.as_str(), &used.with))
                .chain(policies.map(|used| (used.name.as_str(), &used.with)));
            all.push(Wanted {
                scope,
                name,
                kind,
                plugin,
                uses: uses.collect(),
                settings,
            });
        }
    }
    let told = &chains.notifications;
    for (name, plugin) in &told.plugins {
        let receivers = told
            .receivers
            .iter()
            .filter(|receiver| receiver.plugin == *name);
        let settings = json!({ "receivers": receivers.clone().collect::<Vec<_>>() });
        let uses = receivers
            .map(|receiver| (receiver.name.as_str(), &receiver.with))
            .collect();
        let kind = PluginKind::Notifier;
        all.push(Wanted {
            scope: NOTIFICATIONS,
            name,
            kind,
            plugin,
            uses,
            settings,
        });
    }
    all
}

fn merged(config: &Map<String, Value>, with: &Map<String, Value>) -> Map<String, Value> {
    config
        .iter()
        .chain(with)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn catalogue_of(
    folder: ChainFolder,
    mut prepared: BTreeMap<(String, String), Prepared>,
) -> Catalogue {
    let mut catalogue = Catalogue {
        version: folder.version,
        ..Catalogue::default()
    };
    let mut take = |scope: &str, plugin: &str, used: &str| {
        let key = (scope.to_owned(), plugin.to_owned());
        let loaded = prepared
            .get_mut(&key)
            .and_then(|prepared| prepared.loaded.remove(used));
        loaded.unwrap_or_else(|| Err(format!("plugin `{plugin}` is not loaded")))
    };
    for (scope, chain) in &folder.set.chains {
        let policies = chain.observation.policies.iter().map(|settings| {
            let plugin = take(scope, &settings.plugin, &settings.name);
            let columns = plugin.as_ref().map_or_else(|_| Ok(Vec::new()), columns_of);
            let (plugin, columns) = match columns {
                Ok(columns) => (plugin, columns),
                Err(reason) => (Err(reason), Vec::new()),
            };
            ActivePolicy {
                settings: settings.clone(),
                plugin,
                columns,
            }
        });
        catalogue.policies.insert(scope.clone(), policies.collect());
    }
    for receiver in &folder.set.notifications.receivers {
        let plugin = take(NOTIFICATIONS, &receiver.plugin, &receiver.name);
        let active = ActiveReceiver {
            plugin_name: receiver.plugin.clone(),
            plugin,
        };
        catalogue.receivers.insert(receiver.name.clone(), active);
    }
    for (scope, chain) in &folder.set.chains {
        let collectors = chain.observation.collectors.iter().filter_map(|settings| {
            let revision = &prepared
                .get(&(scope.clone(), settings.plugin.clone()))?
                .revision;
            let plugin = chain.profile.plugins.get(&settings.plugin)?;
            let mut limits = revision.terms.limits.clone();
            limits.wall = settings
                .timeout
                .map_or(limits.wall, |timeout| timeout.min(limits.wall));
            Some(ActiveCollector {
                settings: settings.clone(),
                digest: revision.digest.clone(),
                config: Value::Object(merged(&plugin.config, &settings.with)),
                grants: revision.terms.grants.clone(),
                limits,
            })
        });
        catalogue
            .collectors
            .insert(scope.clone(), collectors.collect());
    }
    let told = &folder.set.notifications;
    catalogue.routes = told.routes.iter().map(route_of).collect();
    catalogue.silences = told.silences.iter().map(silence_of).collect();
    catalogue.chains = folder.set;
    catalogue
}

fn columns_of(plugin: &Plugin) -> Result<Vec<host_domain::health::Column>, String> {
    let reads = plugin.description().reads.iter();
    let columns: Result<Vec<_>, _> = reads.map(|column| column.parse()).collect();
    columns.map_err(|error: host_domain::health::BadColumn| error.to_string())
}

fn route_of(route: &notifications::Route) -> Route {
    Route {
        name: route.name.clone(),
        matcher: matcher_of(&route.matches),
        receiver: route.receiver.clone(),
        group_wait: route.group_wait,
        repeat_interval: route.repeat_interval,
        rate_burst: route.rate_limit.burst,
        rate_period: route.rate_limit.per,
    }
}

fn silence_of(silence: &notifications::Silence) -> Silence {
    Silence {
        matcher: matcher_of(&silence.matches),
        until: silence.until.0,
    }
}

/// An empty list in YAML accepts everything.
fn matcher_of(matches: &notifications::LabelMatch) -> Matcher {
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let severities = matches.severity.iter();
    let severities = severities
        .filter_map(|name| Severity::parse(name.as_str()))
        .collect::<Vec<_>>();
    Matcher {
        chain: some(&matches.chain),
        node_type: some(&matches.node_type),
        severity: (!severities.is_empty()).then_some(severities),
        category: some(&matches.category),
    }
}
