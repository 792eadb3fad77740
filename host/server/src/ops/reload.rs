//! Reads the configuration folder and its plugins, and switches to them as a whole or not at all.
//!
//! Each plugin becomes a revision that is staged, validated, compiled and called once. When all revisions are ready, one
//! transaction changes the active revisions, and then the catalogue switches.

mod assemble;
mod declared;
mod first;
mod revisions;
mod secrets;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use host_domain::config::ValidateOptions;
use host_domain::incident::{Cause, Severity, SubjectKind, category};
use host_domain::node::Reason;
use host_domain::plugin::{Limits, PluginKind};
use host_domain::revision::{Revision, RevisionState, RevisionTerms};
use host_runtime::{Digest, LoadSpec, Plugin, PluginHost};
use host_secrets::PluginSecrets;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::agent_link::AgentLink;
use super::records::Records;
use super::{OpError, Subject, raise, resolve};
use crate::catalogue::Chains;
use crate::chains::{self, ChainFolder};
use crate::config::ChainsConfig;
use assemble::catalogue_of;
use declared::{DeclaredPlugin, declared_plugins, merged};

/// Subject of the incident about an invalid folder.
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
    /// The database is unavailable.
    #[error("the revisions could not be recorded")]
    Store(#[from] OpError),
}

impl From<host_store::StoreError> for ReloadError {
    fn from(error: host_store::StoreError) -> Self {
        Self::Store(error.into())
    }
}

/// A plugin of the next catalogue.
struct Prepared {
    revision: Revision,
    is_new: bool,
    path: PathBuf,
    /// Loaded once per use.
    loaded: BTreeMap<String, Result<Plugin, String>>,
}

/// Reads the configuration folder and switches the catalogue. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reload {
    records: Records,
    chains: Chains,
    plugins: PluginHost,
    /// The values of the secrets that this host's plugins are granted.
    secrets: Arc<PluginSecrets>,
    agents: AgentLink,
    config: Arc<ChainsConfig>,
    state_dir: PathBuf,
    /// Serialises reloads.
    lock: Arc<Mutex<()>>,
}

impl Reload {
    pub(crate) fn new(
        records: Records,
        chains: Chains,
        (plugins, secrets): (PluginHost, Arc<PluginSecrets>),
        agents: AgentLink,
        (config, state_dir): (ChainsConfig, PathBuf),
    ) -> Self {
        Self {
            records,
            chains,
            plugins,
            secrets,
            agents,
            config: Arc::new(config),
            state_dir,
            lock: Arc::default(),
        }
    }

    /// Reads the folder again. An invalid folder changes nothing but its incident.
    pub(crate) async fn run(&self) -> Result<(), ReloadError> {
        let _one_at_a_time = self.lock.lock().await;
        self.secrets.refresh().await;
        let outcome = self.load_and_switch().await;
        self.report_folder(outcome.as_ref().err()).await?;
        outcome
    }

    async fn load_and_switch(&self) -> Result<(), ReloadError> {
        let folder = self.read_configured_folder().await?;
        // A plugin that lacked a secret can be loaded now.
        if self.chains.catalogue().version == folder.version && !self.secrets.has_gained() {
            // Agents read their secrets again when they get assignments.
            self.agents.push_assignments();
            return Ok(());
        }
        self.switch_to(folder, false).await
    }

    /// The folder of the settings, in which every secret that this host's plugins are granted must have a value.
    async fn read_configured_folder(&self) -> Result<ChainFolder, ReloadError> {
        let secrets = Arc::clone(&self.secrets);
        self.read_folder(self.config.dir.clone(), Some(secrets))
            .await
    }

    async fn read_folder(
        &self,
        dir: PathBuf,
        secrets: Option<Arc<PluginSecrets>>,
    ) -> Result<ChainFolder, ReloadError> {
        let options = self.validate_options();
        let read = move || chains::load_dir_with(&dir, options, secrets.as_deref());
        let folder = tokio::task::spawn_blocking(read)
            .await
            .map_err(OpError::internal)?;
        folder.map_err(|errors| ReloadError::Config(errors.to_string()))
    }

    fn validate_options(&self) -> ValidateOptions {
        ValidateOptions {
            dev: self.config.allow_undigested,
        }
    }

    /// Switches to a folder. With `tolerate_broken` a plugin that can't be loaded is broken, and the rest works.
    async fn switch_to(
        &self,
        folder: ChainFolder,
        tolerate_broken: bool,
    ) -> Result<(), ReloadError> {
        let mut prepared = BTreeMap::new();
        for declared in declared_plugins(&folder.set) {
            let plugin = self.prepare(&folder, &declared, tolerate_broken).await?;
            prepared.insert(
                (declared.scope.to_owned(), declared.name.to_owned()),
                plugin,
            );
        }
        self.activate(&prepared).await?;
        let is_whole = prepared
            .values()
            .all(|plugin| plugin.loaded.values().all(Result::is_ok));
        let root = if is_whole {
            self.keep(&folder).await
        } else {
            folder.root.clone()
        };
        let components = folder
            .components
            .iter()
            .map(|(path, digest)| (digest.clone(), root.join(path)));
        self.chains.set_components(components.collect());
        self.secrets.forget_gained();
        self.chains.switch(catalogue_of(folder, prepared));
        self.agents.push_assignments();
        Ok(())
    }

    /// Stages, validates, compiles and tries one plugin in all its uses.
    async fn prepare(
        &self,
        folder: &ChainFolder,
        declared: &DeclaredPlugin<'_>,
        tolerate_broken: bool,
    ) -> Result<Prepared, ReloadError> {
        let path = folder.root.join(&declared.plugin.component);
        let limits = declared.plugin.limits.over(&Limits::of(declared.kind));
        let terms = RevisionTerms {
            config: json!({ "config": declared.plugin.config, "uses": declared.settings }),
            grants: declared.plugin.grants.clone(),
            limits: limits.clone(),
        };
        let digest = folder
            .components
            .get(&declared.plugin.component)
            .cloned()
            .unwrap_or_default();
        let active = self
            .records
            .db
            .active_revision(declared.scope, declared.name)
            .await?;
        let same = active.filter(|active| active.digest == digest && active.terms == terms);
        let is_new = same.is_none();
        let revision = match same {
            Some(revision) => revision,
            None => self.stage(declared, &digest, terms).await?,
        };
        let mut prepared = Prepared {
            revision,
            is_new,
            path,
            loaded: BTreeMap::new(),
        };
        for (name, with) in &declared.uses {
            let spec = LoadSpec {
                name: declared.name.to_owned(),
                kind: declared.kind,
                digest: Digest::parse(&digest),
                config: Value::Object(merged(&declared.plugin.config, with)),
                grants: declared.plugin.grants.clone(),
                limits: limits.clone(),
            };
            let loaded = match self.check_secrets(declared) {
                Ok(()) => self.load_plugin(&prepared.path, spec).await,
                Err(reason) => Err(reason),
            };
            if let Err(reason) = &loaded {
                self.refuse(&mut prepared.revision, reason, tolerate_broken)
                    .await?;
                if !tolerate_broken {
                    let full = format!(
                        "`{}/{}` (use `{name}`): {reason}",
                        declared.scope, declared.name
                    );
                    return Err(ReloadError::Plugin(full));
                }
            }
            prepared.loaded.insert((*name).to_owned(), loaded);
        }
        if is_new && prepared.loaded.values().all(Result::is_ok) {
            self.mark_ready(&mut prepared).await?;
        }
        Ok(prepared)
    }

    /// Records what a new plugin says about itself, and that each of its uses loads.
    async fn mark_ready(&self, prepared: &mut Prepared) -> Result<(), ReloadError> {
        let mut loaded = prepared.loaded.values().flatten();
        prepared.revision.description = loaded.next().map(Plugin::description).cloned();
        for state in [RevisionState::Validated, RevisionState::Ready] {
            self.move_revision(&mut prepared.revision, state, None)
                .await?;
        }
        Ok(())
    }

    /// Collectors get secrets from the agents that run them, which check them too.
    fn check_secrets(&self, declared: &DeclaredPlugin<'_>) -> Result<(), String> {
        if declared.kind == PluginKind::Collector {
            return Ok(());
        }
        let checked = self.secrets.check(&declared.plugin.grants);
        checked.map_err(|missing| missing.to_string())
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
            .map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    }

    async fn report_folder(&self, error: Option<&ReloadError>) -> Result<(), ReloadError> {
        let now = self.records.now();
        let subject = Subject {
            kind: SubjectKind::Plugin,
            id: FOLDER.to_owned(),
            name: FOLDER.to_owned(),
            labels: BTreeMap::new(),
        };
        let catalogue = self.chains.catalogue();
        let mut tx = self.records.db.begin().await?;
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
