//! Loads the files of a folder into a [`ChainSet`], or reports everything that is wrong with them.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::check;
use super::diagnostics::{Diagnostic, Diagnostics, Path, Source};
use super::notifications::{Notifications, NotificationsFile};
use super::observation::ObservationConfig;
use super::profile::Profile;
use super::recipe::Recipe;
use super::runtime::Runtime;
use super::tree::{Node, Place};
use super::{ChainConfig, ChainSet, schemas, shape, yaml};

/// The maximum size of one file.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// The maximum number of mistakes in one report.
const MISTAKES_MAX: usize = 500;

/// One file of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// Relative to the folder, with `/` between the parts.
    pub path: String,
    /// Its content as it is on disk.
    pub content: Vec<u8>,
}

/// How strict the loader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValidateOptions {
    /// Development mode: components need no digest, because they are rebuilt often.
    pub dev: bool,
}

/// Loads a folder. `digest_of` returns the digest of a component by its path in the folder, or `None` for a missing
/// file.
pub fn load(
    files: &[ConfigFile],
    options: ValidateOptions,
    digest_of: &dyn Fn(&str) -> Option<String>,
) -> Result<ChainSet, Diagnostics> {
    load_with_secrets(files, options, digest_of, &|_| None)
}

/// The same. `missing_secret` says why a secret has no value in the host, and naming which setting; only grants of plugins that the
/// host runs are checked.
pub fn load_with_secrets(
    files: &[ConfigFile],
    options: ValidateOptions,
    digest_of: &dyn Fn(&str) -> Option<String>,
    missing_secret: &dyn Fn(&str) -> Option<String>,
) -> Result<ChainSet, Diagnostics> {
    let mut folder = Folder::default();
    for file in files {
        folder.add(file);
    }
    let context = check::Context {
        options,
        digest_of,
        missing_secret,
    };
    check::folder(&mut folder, &context);
    if folder.mistakes.is_empty() {
        return Ok(folder.into_set());
    }
    let mut mistakes = folder.mistakes;
    let order = |d: &Diagnostic| (d.file.clone(), d.line, d.column, d.path.clone());
    mistakes.sort_by_key(order);
    mistakes.dedup();
    mistakes.truncate(MISTAKES_MAX);
    Err(Diagnostics(mistakes))
}

/// One YAML file; `model` is present when its shape is right.
#[derive(Debug)]
pub(super) struct Doc<T> {
    pub(super) source: Source,
    pub(super) tree: Node,
    pub(super) model: Option<T>,
}

impl<T> Doc<T> {
    /// A mistake in the value at a path.
    pub(super) fn at(
        &self,
        path: &Path,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Diagnostic {
        self.source
            .mistake(self.tree.place_of(path), path, message, mend)
    }

    /// A mistake in the key at a path.
    pub(super) fn at_key(
        &self,
        path: &Path,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Diagnostic {
        self.source
            .mistake(self.tree.key_place_of(path), path, message, mend)
    }

    /// A mistake in a part of the value at a path.
    pub(super) fn at_part(
        &self,
        path: &Path,
        needle: &str,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Diagnostic {
        let place = self.source.narrow(self.tree.place_of(path), needle);
        self.source.mistake(place, path, message, mend)
    }
}

/// The files of one chain. `broken` names files that exist but are not YAML.
#[derive(Debug, Default)]
pub(super) struct ChainFiles {
    pub(super) profile: Option<Doc<Profile>>,
    pub(super) runtime: Option<Doc<Runtime>>,
    pub(super) observation: Option<Doc<ObservationConfig>>,
    pub(super) recipes: BTreeMap<String, Doc<Recipe>>,
    pub(super) broken: BTreeSet<String>,
}

/// The content of a folder so far.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub(super) chains: BTreeMap<String, ChainFiles>,
    pub(super) notifications: Vec<Doc<NotificationsFile>>,
    pub(super) mistakes: Vec<Diagnostic>,
}

impl Folder {
    fn add(&mut self, file: &ConfigFile) {
        let parts: Vec<&str> = file.path.split('/').collect();
        let extension = file.path.rsplit_once('.').map(|(_, extension)| extension);
        match (parts.as_slice(), extension) {
            (["schema" | "components", ..], _) => {}
            (_, Some("yml")) => self.mistakes.push(Diagnostic::of_file(
                &file.path,
                "the file name must end in `.yaml`",
                format!("rename it to `{}yaml`", file.path.trim_end_matches("yml")),
            )),
            (["chains", chain, name], Some("yaml")) => self.add_chain_file(file, chain, name),
            (["recipes", chain, name], Some("yaml")) => {
                let node_type = name.trim_end_matches(".yaml");
                let doc = self.read::<Recipe>(file, &schemas::RECIPE);
                let files = self.chains.entry((*chain).to_owned()).or_default();
                match doc {
                    Some(doc) => drop(files.recipes.insert(node_type.to_owned(), doc)),
                    None => drop(files.broken.insert(file.path.clone())),
                }
            }
            (["notifications", _], Some("yaml")) => {
                let doc = self.read::<NotificationsFile>(file, &schemas::NOTIFICATIONS);
                self.notifications.extend(doc);
            }
            (_, Some("yaml")) => self.mistakes.push(Diagnostic::of_file(
                &file.path,
                "the host does not read this file",
                "move it to `chains/<chain>/{profile,runtime,observation}.yaml`, `recipes/<chain>/<node type>.yaml` or `notifications/<name>.yaml`, or delete it",
            )),
            _ => {}
        }
    }

    fn add_chain_file(&mut self, file: &ConfigFile, chain: &str, name: &str) {
        let is_read = match name {
            "profile.yaml" => {
                let doc = self.read(file, &schemas::PROFILE);
                self.chain(chain).profile = doc;
                self.chain(chain).profile.is_some()
            }
            "runtime.yaml" => {
                let doc = self.read(file, &schemas::RUNTIME);
                self.chain(chain).runtime = doc;
                self.chain(chain).runtime.is_some()
            }
            "observation.yaml" => {
                let doc = self.read(file, &schemas::OBSERVATION);
                self.chain(chain).observation = doc;
                self.chain(chain).observation.is_some()
            }
            _ => {
                self.mistakes.push(Diagnostic::of_file(
                    &file.path,
                    "a chain has no file of this name",
                    "name it `profile.yaml`, `runtime.yaml` or `observation.yaml`, or delete it",
                ));
                true
            }
        };
        if !is_read {
            self.chain(chain).broken.insert(file.path.clone());
        }
    }

    fn chain(&mut self, chain: &str) -> &mut ChainFiles {
        self.chains.entry(chain.to_owned()).or_default()
    }

    /// Loads one file as far as possible.
    fn read<T: DeserializeOwned>(&mut self, file: &ConfigFile, schema: &Value) -> Option<Doc<T>> {
        let source = match text_of(file) {
            Ok(text) => Source {
                file: file.path.clone(),
                text,
            },
            Err(mistake) => {
                self.mistakes.push(*mistake);
                return None;
            }
        };
        let (tree, mut mistakes) = match yaml::parse(&source) {
            Ok(read) => read,
            Err(mistake) => {
                self.mistakes.push(*mistake);
                return None;
            }
        };
        mistakes.extend(shape::check(&source, &tree, schema));
        let mut doc = Doc {
            source,
            tree,
            model: None,
        };
        if mistakes.is_empty() {
            match serde_path_to_error::deserialize(doc.tree.to_json()) {
                Ok(model) => doc.model = Some(model),
                Err(error) => mistakes.push(of_serde(&doc, &error)),
            }
        }
        self.mistakes.extend(mistakes);
        Some(doc)
    }

    /// The model. Only called without mistakes, so every part exists.
    fn into_set(self) -> ChainSet {
        let mut set = ChainSet::default();
        for (id, files) in self.chains {
            let parts = (
                files.profile.and_then(|doc| doc.model),
                files.runtime.and_then(|doc| doc.model),
                files.observation.and_then(|doc| doc.model),
            );
            if let (Some(profile), Some(runtime), Some(observation)) = parts {
                let recipes = files.recipes.into_iter();
                let recipes = recipes
                    .filter_map(|(kind, doc)| Some((kind, doc.model?)))
                    .collect();
                set.chains.insert(
                    id,
                    ChainConfig {
                        profile,
                        runtime,
                        observation,
                        recipes,
                    },
                );
            }
        }
        let mut all = Notifications::default();
        for file in self.notifications.into_iter().filter_map(|doc| doc.model) {
            all.plugins.extend(file.plugins);
            all.receivers.extend(file.receivers);
            all.routes.extend(file.routes);
            all.silences.extend(file.silences);
        }
        set.notifications = all;
        set
    }
}

fn text_of(file: &ConfigFile) -> Result<String, Box<Diagnostic>> {
    if file.content.len() > FILE_BYTES_MAX {
        let message = format!(
            "the file has {} bytes; the maximum is 1 MiB",
            file.content.len()
        );
        return Err(Box::new(Diagnostic::of_file(
            &file.path,
            message,
            "split the file, or download large data in a recipe",
        )));
    }
    let text = match std::str::from_utf8(&file.content) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let good = String::from_utf8_lossy(&file.content[..error.valid_up_to()]).into_owned();
            let line = good.matches('\n').count() + 1;
            let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            let source = Source {
                file: file.path.clone(),
                text: good,
            };
            let place = Place {
                line,
                column,
                start: 0,
                end: 1,
            };
            let message = "the file contains a byte that is not UTF-8";
            return Err(Box::new(source.mistake(
                place,
                &Path::default(),
                message,
                "save the file as UTF-8",
            )));
        }
    };
    Ok(text.to_owned())
}

/// A value that the schema accepts and the type rejects, such as a duration that overflows.
fn of_serde<T>(doc: &Doc<T>, error: &serde_path_to_error::Error<serde_json::Error>) -> Diagnostic {
    use serde_path_to_error::Segment;
    let path = error
        .path()
        .iter()
        .fold(Path::default(), |path, segment| match segment {
            Segment::Seq { index } => path.at(*index),
            Segment::Map { key } => path.at(key),
            Segment::Enum { variant } => path.at(variant),
            Segment::Unknown => path,
        });
    doc.at(&path, error.inner().to_string(), "correct the value")
}
