//! Renders a recipe's templates for one node and validates the results as fields of their steps.
//!
//! The same code runs at validation with sample values and at provisioning with real ones, so a loaded recipe can
//! fail only because of a person's input.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ChainConfig;
use super::diagnostics::{Path, did_you_mean};
use super::names::names;
use super::profile::KeyUse;
use super::recipe::{
    KeyStep, PackageManager, PackageStep, ProcessStep, Step, StepAction, WaitForStep,
};
use super::render_fields::{is_sha512, mode};
use super::runtime::Process;
use super::scalars::Sha256;
use super::schema_words::short;
use super::step::{RenderedAction, RenderedProcess, RenderedStep, TemplateValues, WaitTarget};
use super::template::{TemplateFault, Templates, is_template};

/// A recipe that can't be rendered for a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The chain has no such node type.
    #[error(
        "chain `{chain}` has no recipe for node type `{node_type}`; choose a node type of its profile"
    )]
    NoRecipe {
        /// The chain.
        chain: String,
        /// The node type.
        node_type: String,
    },
    /// A step can't be rendered.
    #[error("step `{step}`, {field}: {message}; {mend}")]
    Step {
        /// The step's name.
        step: String,
        /// The field, such as `with.url`.
        field: String,
        /// What is wrong.
        message: String,
        /// How to fix it.
        mend: String,
    },
}

/// The steps that install a node of a type, without those whose `when` is false.
pub fn render_recipe(
    chain: &ChainConfig,
    node_type: &str,
    values: &TemplateValues,
) -> Result<Vec<RenderedStep>, RenderError> {
    let recipe = chain
        .recipes
        .get(node_type)
        .ok_or_else(|| RenderError::NoRecipe {
            chain: chain.profile.chain_id.clone(),
            node_type: node_type.to_owned(),
        })?;
    let names = names(&chain.profile, &chain.runtime, node_type, values);
    let profile = &chain.profile;
    let renderer = Renderer::new(names, &values.root, &chain.runtime.process, &profile.keys);
    let mut steps = Vec::new();
    for step in &recipe.steps {
        let filled = renderer.step(step).map_err(|fault| RenderError::Step {
            step: step.name.clone(),
            field: fault.path.to_string(),
            message: fault.message,
            mend: fault.mend,
        })?;
        steps.extend(filled);
    }
    Ok(steps)
}

/// A mistake in one field.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// Whether the field is in runtime.yaml instead of the step.
    pub(super) in_runtime: bool,
    /// The path in the step or in runtime.yaml.
    pub(super) path: Path,
    pub(super) message: String,
    pub(super) mend: String,
}

/// Renders steps for one node.
pub(super) struct Renderer<'a> {
    pub(super) templates: Templates,
    pub(super) root: String,
    process: &'a Process,
    keys: &'a BTreeMap<String, KeyUse>,
}

impl<'a> Renderer<'a> {
    pub(super) fn new(
        names: Value,
        root: &str,
        process: &'a Process,
        keys: &'a BTreeMap<String, KeyUse>,
    ) -> Self {
        Self {
            templates: Templates::new(names),
            root: root.trim_end_matches('/').to_owned(),
            process,
            keys,
        }
    }

    /// Renders one text.
    pub(super) fn template(&self, text: &str) -> Result<String, TemplateFault> {
        self.templates.render(text)
    }

    /// Renders a step, or returns `None` when its `when` is false.
    pub(super) fn step(&self, step: &Step) -> Result<Option<RenderedStep>, Fault> {
        let top = Path::default();
        if let Some(when) = &step.when {
            let answer = self.text(when, &top.at("when"))?;
            if matches!(answer.trim(), "" | "false") {
                return Ok(None);
            }
        }
        let creates = step
            .creates
            .as_ref()
            .map(|path| self.path(path, &top.at("creates")));
        Ok(Some(RenderedStep {
            name: step.name.clone(),
            creates: creates.transpose()?,
            timeout: step.timeout,
            retry: step.retry.clone(),
            action: self.action(&step.action)?,
        }))
    }

    fn action(&self, action: &StepAction) -> Result<RenderedAction, Fault> {
        let at = |field: &str| Path::default().at("with").at(field);
        Ok(match action {
            StepAction::Package(step) => self.package(step)?,
            StepAction::Directory(step) => RenderedAction::Directory {
                path: self.path(&step.path, &at("path"))?,
                mode: mode(&step.mode, &at("mode"))?,
            },
            StepAction::File(step) => RenderedAction::File {
                path: self.path(&step.path, &at("path"))?,
                content: self.text(&step.content, &at("content"))?,
                mode: mode(&step.mode, &at("mode"))?,
            },
            StepAction::Download(step) => RenderedAction::Download {
                url: self.url(&step.url, &at("url"))?,
                path: self.path(&step.path, &at("path"))?,
                checksum: self.checksum(&step.checksum, &at("checksum"))?,
            },
            StepAction::Extract(step) => RenderedAction::Extract {
                archive: self.path(&step.archive, &at("archive"))?,
                path: self.path(&step.path, &at("path"))?,
                strip: step.strip,
            },
            StepAction::Binary(step) => RenderedAction::Binary {
                name: step.name.clone(),
                source: self.path(&step.source, &at("source"))?,
                version: self.filled(&step.version, &at("version"))?,
            },
            StepAction::Key(step) => self.key(step)?,
            StepAction::Process(step) => RenderedAction::Process(self.process(step)?),
            StepAction::WaitFor(step) => RenderedAction::WaitFor {
                target: self.target(step)?,
                interval: step.interval,
            },
        })
    }

    fn package(&self, step: &PackageStep) -> Result<RenderedAction, Fault> {
        let at = |field: &str| Path::default().at("with").at(field);
        let integrity = self.text(&step.integrity, &at("integrity"))?;
        let (is_right, mend) = match step.manager {
            PackageManager::Npm => (
                is_sha512(&integrity),
                "write `sha512-<base64>`, as `npm view <package>@<version> dist.integrity` prints it",
            ),
            PackageManager::Pip | PackageManager::Apt => (
                integrity.parse::<Sha256>().is_ok(),
                "write `sha256:` and the 64 lowercase hexadecimal digits of the wheel or .deb",
            ),
        };
        if !is_right {
            let message = format!(
                "`{}` is not a valid integrity for this package manager",
                short(&integrity)
            );
            return Err(fault(&at("integrity"), message, mend));
        }
        let mut binaries = BTreeMap::new();
        for (name, source) in &step.binaries {
            let at = at("binaries").at(name);
            binaries.insert(name.clone(), self.path(source, &at)?);
        }
        Ok(RenderedAction::Package {
            manager: step.manager,
            name: self.package_name(&step.name, &at("name"))?,
            version: self.exact_version(&step.version, &at("version"))?,
            integrity,
            binaries,
        })
    }

    fn key(&self, step: &KeyStep) -> Result<RenderedAction, Fault> {
        let Some(key) = self.keys.get(&step.name) else {
            let message = format!("`{}` is not a key of the profile", short(&step.name));
            let mend = did_you_mean(&step.name, "key", self.keys.keys().map(String::as_str));
            let at = Path::default().at("with").at("name");
            return Err(fault(&at, message, &mend));
        };
        Ok(RenderedAction::Key {
            name: step.name.clone(),
            path: key.path.clone(),
            encoding: key.encoding,
        })
    }

    fn process(&self, step: &ProcessStep) -> Result<RenderedProcess, Fault> {
        let with = Path::default().at("with");
        let own = Path::default().at("process");
        let base = self.process;
        let command = match &step.command {
            Some(command) => self.filled(command, &with.at("command")),
            None => self
                .filled(&base.command, &own.at("command"))
                .map_err(Fault::into_runtime),
        }?;
        let args = match &step.args {
            Some(args) => self.args(args, &with.at("args")),
            None => self
                .args(&base.args, &own.at("args"))
                .map_err(Fault::into_runtime),
        }?;
        let mut env = self
            .env(&base.env, &own.at("env"))
            .map_err(Fault::into_runtime)?;
        env.extend(self.env(&step.env, &with.at("env"))?);
        Ok(RenderedProcess {
            name: step.name.clone(),
            adapter: base.adapter,
            command,
            args,
            env,
            restart: base.restart.clone(),
            stop_grace: base.stop_grace,
            log: base.log.clone(),
        })
    }

    /// Omits an argument whose template renders to nothing, so that an argument can depend on a condition.
    fn args(&self, args: &[String], at: &Path) -> Result<Vec<String>, Fault> {
        let mut rendered = Vec::with_capacity(args.len());
        for (index, arg) in args.iter().enumerate() {
            let text = self.text(arg, &at.at(index))?;
            if !(text.is_empty() && is_template(arg)) {
                rendered.push(text);
            }
        }
        Ok(rendered)
    }

    fn env(
        &self,
        env: &BTreeMap<String, String>,
        at: &Path,
    ) -> Result<BTreeMap<String, String>, Fault> {
        let mut rendered = BTreeMap::new();
        for (name, value) in env {
            let at = at.at(name);
            let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
                && !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !is_name {
                let message = format!(
                    "`{}` is not a valid name of an environment variable",
                    short(name)
                );
                return Err(fault(&at, message, "use letters, digits and `_`"));
            }
            rendered.insert(name.clone(), self.text(value, &at)?);
        }
        Ok(rendered)
    }

    fn target(&self, step: &WaitForStep) -> Result<WaitTarget, Fault> {
        let with = Path::default().at("with");
        match (&step.tcp, &step.http, &step.path) {
            (Some(tcp), None, None) => Ok(WaitTarget::Tcp(self.address(tcp, &with.at("tcp"))?)),
            (None, Some(http), None) => Ok(WaitTarget::Http(self.url(http, &with.at("http"))?)),
            (None, None, Some(path)) => Ok(WaitTarget::Path(self.path(path, &with.at("path"))?)),
            _ => {
                let message = "the step needs exactly one target".to_owned();
                Err(fault(
                    &with,
                    message,
                    "set exactly one of `tcp`, `http` and `path`",
                ))
            }
        }
    }
}

impl Fault {
    fn into_runtime(self) -> Self {
        Self {
            in_runtime: true,
            ..self
        }
    }
}

/// A mistake in a field of the step.
pub(super) fn fault(path: &Path, message: String, mend: &str) -> Fault {
    Fault {
        in_runtime: false,
        path: path.clone(),
        message,
        mend: mend.to_owned(),
    }
}
