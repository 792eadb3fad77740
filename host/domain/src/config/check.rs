//! Checks names across the files of a folder: every name that one file uses must exist in the file that declares it.
//!
//! An unreadable file takes part in no check, so that one mistake does not cause ten reports.

use std::collections::BTreeSet;
use std::time::Duration;

use url::Url;

use super::diagnostics::{Diagnostic, Path, did_you_mean};
use super::load::{ChainFiles, Doc, Folder, ValidateOptions};
use super::observation::ObservationConfig;
use super::profile::PluginUse;
use super::render_fields::stays_inside;
use super::{check_chain, check_notifications, check_recipe};
use crate::time::{format_duration, parse_duration};

/// Adds every mistake across files.
pub(super) fn folder(folder: &mut Folder, context: &Context<'_>) {
    let mut found = Vec::new();
    for (chain, files) in &folder.chains {
        complete(chain, files, &mut found);
        check_chain::chain(chain, files, context, &mut found);
        check_recipe::recipes(files, &mut found);
    }
    check_notifications::notifications(&folder.notifications, context, &mut found);
    folder.mistakes.extend(found);
}

/// What the checks know besides the files.
pub(super) struct Context<'a> {
    pub(super) options: ValidateOptions,
    pub(super) digest_of: &'a dyn Fn(&str) -> Option<String>,
    pub(super) missing_secret: &'a dyn Fn(&str) -> Option<String>,
}

/// Checks that a chain has all its files and a recipe for each node type.
fn complete(chain: &str, files: &ChainFiles, found: &mut Vec<Diagnostic>) {
    let folder = format!("chains/{chain}");
    let parts = [
        ("profile.yaml", files.profile.is_some()),
        ("runtime.yaml", files.runtime.is_some()),
        ("observation.yaml", files.observation.is_some()),
    ];
    if parts.iter().all(|(_, is_there)| !is_there)
        && files.broken.iter().all(|f| !f.starts_with("chains/"))
    {
        for doc in files.recipes.values() {
            found.push(Diagnostic::of_file(
                &doc.source.file,
                format!("the recipe belongs to chain `{chain}`, which has no profile"),
                format!(
                    "add `{folder}/profile.yaml`, or rename the recipe's folder to the chain's id"
                ),
            ));
        }
        return;
    }
    for (name, is_there) in parts {
        let path = format!("{folder}/{name}");
        if !is_there && !files.broken.contains(&path) {
            let mend = "add it; every chain has profile.yaml, runtime.yaml and observation.yaml";
            found.push(Diagnostic::of_file(&path, "the file is missing", mend));
        }
    }
}

/// Checks a name that appears in paths, labels and tables.
pub(super) fn name<T>(
    doc: &Doc<T>,
    path: &Path,
    name: &str,
    what: &str,
    found: &mut Vec<Diagnostic>,
) {
    let mut chars = name.chars();
    let is_right = chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
        && name.len() <= 63;
    if !is_right {
        let message = format!(
            "`{}` is not a valid name of a {what}",
            super::schema_words::short(name)
        );
        let mend = "use at most 63 lowercase letters, digits, `-` and `_`, starting with a letter";
        found.push(doc.at(path, message, mend));
    }
}

/// Checks a name that templates write with dots.
pub(super) fn template_name<T>(doc: &Doc<T>, path: &Path, name: &str, found: &mut Vec<Diagnostic>) {
    let mut chars = name.chars();
    let is_right = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.len() <= 63;
    if !is_right {
        let message = format!(
            "`{}` is not a valid name in a template",
            super::schema_words::short(name)
        );
        let mend = "use at most 63 letters, digits and `_`, starting with a letter";
        found.push(doc.at_key(path, message, mend));
    }
}

/// Checks that a list contains no name twice.
pub(super) fn unique<'a, T>(
    doc: &Doc<T>,
    list: &str,
    names: impl Iterator<Item = &'a String>,
    found: &mut Vec<Diagnostic>,
) {
    let mut seen = BTreeSet::new();
    for (index, name) in names.enumerate() {
        let path = Path::default().at(list).at(index).at("name");
        self::name(doc, &path, name, "entry", found);
        if !seen.insert(name) {
            let message = format!("the name `{name}` occurs twice in `{list}`");
            found.push(doc.at(&path, message, "give each entry a unique name"));
        }
    }
}

/// Checks a key that is a term, such as `30d`.
pub(super) fn term<T>(doc: &Doc<T>, path: &Path, key: &str, found: &mut Vec<Diagnostic>) {
    if let Err(bad) = parse_duration(key) {
        found.push(doc.at_key(
            path,
            bad.to_string(),
            "write the term as days, such as `30d`",
        ));
    }
}

/// Checks that a duration is within bounds.
pub(super) fn within<T>(
    doc: &Doc<T>,
    path: &Path,
    value: Duration,
    (least, most): (Duration, Duration),
    found: &mut Vec<Diagnostic>,
) {
    if value < least || value > most {
        let (least, most) = (format_duration(least), format_duration(most));
        let message = format!("{} is out of range", format_duration(value));
        found.push(doc.at(
            path,
            message,
            format!("write a duration from {least} to {most}"),
        ));
    }
}

/// The place of a plugin's declaration.
pub(super) struct PluginPlace<'a, T> {
    pub(super) doc: &'a Doc<T>,
    pub(super) name: &'a str,
    pub(super) plugin: &'a PluginUse,
    /// Names of the chain's ports; `None` outside a chain, and when they are unreadable.
    pub(super) ports: Option<Vec<&'a str>>,
    /// Whether `node:` targets have a meaning here.
    pub(super) has_node: bool,
}

/// Checks one plugin's declaration.
pub(super) fn plugin<T>(
    declared: &PluginPlace<'_, T>,
    context: &Context<'_>,
    found: &mut Vec<Diagnostic>,
) {
    let (doc, plugin) = (declared.doc, declared.plugin);
    let path = Path::default().at("plugins").at(declared.name);
    name(doc, &path, declared.name, "plugin", found);
    component(declared, context, &path, found);
    for (index, grant) in plugin.grants.http.iter().enumerate() {
        let path = path.at("grants").at("http").at(index).at("target");
        target(declared, &grant.target, &path, found);
    }
    // Plugins of chains get secrets from the agents that run them.
    if !declared.has_node {
        secrets(declared, context, &path, found);
    }
    if let (Some(cpu), Some(wall)) = (plugin.limits.cpu, plugin.limits.wall)
        && cpu > wall
    {
        let path = path.at("limits").at("cpu");
        let mend = "raise `wall`, the limit of the whole call, or lower `cpu`";
        found.push(doc.at(
            &path,
            "`cpu` is longer than `wall`, the limit of the whole call",
            mend,
        ));
    }
}

/// Checks that every granted secret has a value.
fn secrets<T>(
    declared: &PluginPlace<'_, T>,
    context: &Context<'_>,
    path: &Path,
    found: &mut Vec<Diagnostic>,
) {
    for (index, name) in declared.plugin.grants.secrets.iter().enumerate() {
        if let Some(reason) = (context.missing_secret)(name) {
            let path = path.at("grants").at("secrets").at(index);
            let message = format!("the secret `{name}` has no value: {reason}");
            let mend = format!(
                "set `secrets.{name}` in the host's settings, or remove it from the grants"
            );
            found.push(declared.doc.at(&path, message, mend));
        }
    }
}

/// Checks that the component exists and has the declared digest.
fn component<T>(
    declared: &PluginPlace<'_, T>,
    context: &Context<'_>,
    path: &Path,
    found: &mut Vec<Diagnostic>,
) {
    let (doc, plugin) = (declared.doc, declared.plugin);
    let component = plugin.component.as_str();
    let of_component = path.at("component");
    if !stays_inside(component) || component.contains("://") {
        let message = format!(
            "`{}` is not a path below the folder of chain configurations",
            super::schema_words::short(component)
        );
        let mend = "copy the component into `components/` and write `components/<name>.wasm`";
        found.push(doc.at(&of_component, message, mend));
        return;
    }
    let Some(actual) = (context.digest_of)(component) else {
        let message = format!("the file `{component}` does not exist");
        let mend = "build it with `bellwether plugin build`, or correct the path, which is relative to the folder of chain configurations";
        found.push(doc.at(&of_component, message, mend));
        return;
    };
    match &plugin.digest {
        Some(digest) if digest.as_str() != actual => {
            let message = format!("`{component}` has a different digest");
            let mend = format!("review the change; if it is correct, write `{actual}`");
            found.push(doc.at(&path.at("digest"), message, mend));
        }
        None if !context.options.dev => {
            let mend = format!(
                "add `digest: {actual}`; only development mode (`--dev`) accepts a component without one"
            );
            found.push(doc.at_key(path, "`digest` is missing", mend));
        }
        Some(_) | None => {}
    }
}

/// Checks a target of HTTP requests.
fn target<T>(
    declared: &PluginPlace<'_, T>,
    target: &str,
    path: &Path,
    found: &mut Vec<Diagnostic>,
) {
    let doc = declared.doc;
    let Some(port) = target.strip_prefix("node:") else {
        let is_web = Url::parse(target)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !is_web {
            let message = format!(
                "`{}` is not a valid target",
                super::schema_words::short(target)
            );
            let mend =
                "write `node:<port>` or a complete URL that starts with `https://` or `http://`";
            found.push(doc.at(path, message, mend));
        }
        return;
    };
    if !declared.has_node {
        let mend = "write a complete URL: a notifier belongs to no node";
        found.push(doc.at(path, "`node:` targets are not available here", mend));
    } else if let Some(ports) = &declared.ports
        && !ports.contains(&port)
    {
        let mend = did_you_mean(port, "port", ports.iter().copied());
        let message = format!(
            "runtime.yaml has no port `{}`",
            super::schema_words::short(port)
        );
        found.push(doc.at_part(path, port, message, mend));
    }
}

/// Checks that the plugins of observation.yaml are used in their kinds.
pub(super) fn uses(
    observation: &ObservationConfig,
) -> impl Iterator<Item = (&str, &'static str, usize)> {
    let collectors = observation.collectors.iter().enumerate();
    let policies = observation.policies.iter().enumerate();
    collectors
        .map(|(index, used)| (used.plugin.as_str(), "collectors", index))
        .chain(policies.map(|(index, used)| (used.plugin.as_str(), "policies", index)))
}

/// Reports a plugin that nothing uses, because the host would never load it.
pub(super) fn unused<T>(doc: &Doc<T>, name: &str, by: &str, found: &mut Vec<Diagnostic>) {
    let path = Path::default().at("plugins").at(name);
    let mend = format!("name it in {by}, or delete it");
    found.push(doc.at_key(&path, format!("nothing uses the plugin `{name}`"), mend));
}

/// Checks that a name is one of the declared names.
pub(super) fn exists<T>(
    doc: &Doc<T>,
    path: &Path,
    name: &str,
    (what, names): (&str, &[&str]),
    found: &mut Vec<Diagnostic>,
) {
    if !names.contains(&name) {
        let mend = did_you_mean(name, what, names.iter().copied());
        found.push(doc.at(
            path,
            format!(
                "the {what} `{}` does not exist",
                super::schema_words::short(name)
            ),
            mend,
        ));
    }
}
