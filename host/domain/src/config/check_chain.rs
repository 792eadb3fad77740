//! Checks a chain's profile, runtime and observation.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;

use super::check::{
    Context, PluginPlace, exists, name, plugin, template_name, term, unique, unused, uses, within,
};
use super::diagnostics::{Diagnostic, Path};
use super::load::{ChainFiles, Doc};
use super::names::binary_url;
use super::observation::ObservationConfig;
use super::profile::{NodeType, Profile};
use super::render_fields::stays_inside;
use super::runtime::Runtime;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Checks everything about one chain except its recipes.
pub(super) fn chain(
    chain: &str,
    files: &ChainFiles,
    context: &Context<'_>,
    found: &mut Vec<Diagnostic>,
) {
    let runtime = files.runtime.as_ref().and_then(|doc| doc.model.as_ref());
    let observation = files
        .observation
        .as_ref()
        .and_then(|doc| doc.model.as_ref());
    if let Some(doc) = &files.profile
        && let Some(model) = &doc.model
    {
        profile(chain, doc, model, files, found);
        let ports: Option<Vec<&str>> =
            runtime.map(|r| r.ports.keys().map(String::as_str).collect());
        for (name, used) in &model.plugins {
            let ports = ports.clone();
            plugin(
                &PluginPlace {
                    doc,
                    name,
                    plugin: used,
                    ports,
                    has_node: true,
                },
                context,
                found,
            );
            // An unknown name among the uses may be a misspelling of this plugin.
            let is_unused = |o: &ObservationConfig| {
                uses(o).all(|(used, _, _)| used != name && model.plugins.contains_key(used))
            };
            if observation.is_some_and(is_unused) {
                unused(
                    doc,
                    name,
                    "a collector or policy of observation.yaml",
                    found,
                );
            }
        }
    }
    if let Some(doc) = &files.runtime
        && let Some(model) = &doc.model
    {
        self::runtime(doc, model, found);
    }
    if let Some(doc) = &files.observation
        && let Some(model) = &doc.model
    {
        self::observation(doc, model, found);
        if let Some(profile) = files.profile.as_ref().and_then(|doc| doc.model.as_ref()) {
            plugin_references(doc, model, profile, found);
        }
    }
}

fn profile(
    chain: &str,
    doc: &Doc<Profile>,
    model: &Profile,
    files: &ChainFiles,
    found: &mut Vec<Diagnostic>,
) {
    let top = Path::default();
    name(doc, &top.at("chain_id"), &model.chain_id, "chain", found);
    if model.chain_id != chain {
        let message = format!(
            "`{}` differs from the name of the chain's folder",
            model.chain_id
        );
        found.push(doc.at(
            &top.at("chain_id"),
            message,
            format!("write `{chain}`, or rename the folder"),
        ));
    }
    if model.node_types.is_empty() {
        let mend = "declare at least one, such as `full`";
        found.push(doc.at_key(&top.at("node_types"), "`node_types` is empty", mend));
    }
    for (kind, node_type) in &model.node_types {
        let path = top.at("node_types").at(kind);
        name(doc, &path, kind, "node type", found);
        self::node_type(doc, &path, node_type, found);
        let recipe = format!("recipes/{chain}/{kind}.yaml");
        if !files.recipes.contains_key(kind) && !files.broken.contains(&recipe) {
            let message = format!("node type `{kind}` has no recipe");
            found.push(doc.at_key(&path, message, format!("add `{recipe}`")));
        }
    }
    for (kind, recipe) in &files.recipes {
        if !model.node_types.contains_key(kind) {
            let file = &recipe.source.file;
            let kinds = model.node_types.keys().map(String::as_str);
            let mend = super::diagnostics::did_you_mean(kind, "node type", kinds);
            let message =
                format!("the recipe is for node type `{kind}`, which the profile does not declare");
            found.push(Diagnostic::of_file(file, message, mend));
        }
    }
    binaries_and_inputs(doc, model, found);
    keys(doc, model, found);
}

fn keys(doc: &Doc<Profile>, model: &Profile, found: &mut Vec<Diagnostic>) {
    let mut paths = BTreeMap::new();
    for (key, used) in &model.keys {
        let at = Path::default().at("keys").at(key);
        name(doc, &at, key, "key", found);
        let at = at.at("path");
        if !stays_inside(&used.path) || used.path.contains("{{") {
            let message = format!("`{}` is not a file below the node's folder", used.path);
            let mend = "write a relative path without `..` and without a template";
            found.push(doc.at(&at, message, mend));
        } else if let Some(other) = paths.insert(used.path.as_str(), key) {
            let message = format!("key `{other}` uses the same path");
            found.push(doc.at(&at, message, "give each key a unique path"));
        }
    }
}

fn node_type(doc: &Doc<Profile>, path: &Path, model: &NodeType, found: &mut Vec<Diagnostic>) {
    let providers: Vec<&str> = model.providers.keys().map(String::as_str).collect();
    if model.default_providers.is_empty() {
        let mend = "name at least one of `providers`";
        found.push(doc.at_key(&path.at("default_providers"), "the list is empty", mend));
    }
    for (index, provider) in model.default_providers.iter().enumerate() {
        let path = path.at("default_providers").at(index);
        exists(doc, &path, provider, ("provider", &providers), found);
    }
    for (key, provider) in &model.providers {
        let path = path.at("providers").at(key);
        name(doc, &path, key, "provider", found);
        let regions: Vec<&str> = provider.regions.iter().map(String::as_str).collect();
        exists(
            doc,
            &path.at("default_region"),
            &provider.default_region,
            ("region", &regions),
            found,
        );
        for key in provider.by_duration.keys() {
            term(doc, &path.at("by_duration").at(key), key, found);
        }
    }
    for key in model.sync_data.keys() {
        template_name(doc, &path.at("sync_data").at(key), key, found);
    }
    for key in model.price.keys() {
        term(doc, &path.at("price").at(key), key, found);
    }
}

fn binaries_and_inputs(doc: &Doc<Profile>, model: &Profile, found: &mut Vec<Diagnostic>) {
    for (key, binary) in &model.binaries {
        let path = Path::default().at("binaries").at(key);
        template_name(doc, &path, key, found);
        let Some(template) = &binary.url_template else {
            continue;
        };
        if let Err(fault) = binary_url(template, &binary.version) {
            let needle = fault.needle.unwrap_or_default();
            found.push(doc.at_part(&path.at("url_template"), &needle, fault.message, fault.mend));
        }
        if binary.checksum.is_none() {
            let mend = "add `checksum: sha256:…` of the file at the URL";
            found.push(doc.at_key(&path, "the download has no `checksum`", mend));
        }
    }
    for (key, input) in &model.inputs {
        let path = Path::default().at("inputs").at(key);
        template_name(doc, &path, key, found);
        if let Some(pattern) = &input.pattern
            && Regex::new(pattern).is_err()
        {
            let message = format!(
                "`{}` is not a valid regular expression",
                super::schema_words::short(pattern)
            );
            let mend =
                "check brackets and backslashes; look-around and back-references are not supported";
            found.push(doc.at(&path.at("pattern"), message, mend));
        }
    }
}

fn runtime(doc: &Doc<Runtime>, model: &Runtime, found: &mut Vec<Diagnostic>) {
    let top = Path::default();
    for key in model.ports.keys() {
        template_name(doc, &top.at("ports").at(key), key, found);
    }
    let paths = [
        ("home", &model.paths.home),
        ("data", &model.paths.data),
        ("config", &model.paths.config),
    ];
    for (key, path) in paths {
        if !stays_inside(path) {
            let message = format!(
                "`{}` leads outside the node's folder",
                super::schema_words::short(path)
            );
            found.push(doc.at(
                &top.at("paths").at(key),
                message,
                "write a relative path without `..`",
            ));
        }
    }
    let process = top.at("process");
    let restart = &model.process.restart;
    if restart.backoff > restart.backoff_max {
        let mend = "raise `backoff_max`, the longest pause, or lower `backoff`, the first one";
        let path = process.at("restart").at("backoff");
        found.push(doc.at(&path, "`backoff` is longer than `backoff_max`", mend));
    }
    let bounds = (Duration::ZERO, HOUR);
    within(
        doc,
        &process.at("stop_grace"),
        model.process.stop_grace,
        bounds,
        found,
    );
}

fn observation(
    doc: &Doc<ObservationConfig>,
    model: &ObservationConfig,
    found: &mut Vec<Diagnostic>,
) {
    let top = Path::default();
    for key in model.observations.keys() {
        let is_right = key.split('.').count() > 1
            && key.split('.').all(|part| {
                !part.is_empty()
                    && part
                        .bytes()
                        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            });
        if !is_right {
            let message = format!(
                "`{}` is not a valid name of an observation",
                super::schema_words::short(key)
            );
            let mend = "write a dotted lowercase name, such as `node.height`";
            found.push(doc.at_key(&top.at("observations").at(key), message, mend));
        }
    }
    unique(
        doc,
        "collectors",
        model.collectors.iter().map(|c| &c.name),
        found,
    );
    unique(
        doc,
        "policies",
        model.policies.iter().map(|p| &p.name),
        found,
    );
    for (index, collector) in model.collectors.iter().enumerate() {
        let path = top.at("collectors").at(index);
        within(
            doc,
            &path.at("every"),
            collector.every,
            (SECOND, HOUR),
            found,
        );
        if let Some(timeout) = collector.timeout
            && (timeout > collector.every || timeout.is_zero())
        {
            let mend =
                "write at most the value of `every`, because runs of one collector never overlap";
            found.push(doc.at(
                &path.at("timeout"),
                "`timeout` is longer than `every`",
                mend,
            ));
        }
    }
    for (index, policy) in model.policies.iter().enumerate() {
        let path = top.at("policies").at(index);
        within(doc, &path.at("every"), policy.every, (SECOND, HOUR), found);
        within(
            doc,
            &path.at("for"),
            policy.hold_for,
            (Duration::ZERO, DAY),
            found,
        );
        within(doc, &path.at("window"), policy.window, (SECOND, DAY), found);
        if policy.window < policy.every {
            let mend =
                "make `window` at least as long as `every`; otherwise the policy misses samples";
            found.push(doc.at(&path.at("window"), "`window` is shorter than `every`", mend));
        }
    }
}

/// Checks that collectors and policies name plugins of the profile, each in one role.
fn plugin_references(
    doc: &Doc<ObservationConfig>,
    model: &ObservationConfig,
    profile: &Profile,
    found: &mut Vec<Diagnostic>,
) {
    let plugins: Vec<&str> = profile.plugins.keys().map(String::as_str).collect();
    for (used, list, index) in uses(model) {
        let path = Path::default().at(list).at(index).at("plugin");
        exists(doc, &path, used, ("plugin", &plugins), found);
        if list == "policies" && model.collectors.iter().any(|c| c.plugin == used) {
            let message = format!("`{used}` is also used as a collector");
            let mend = "name a health-policy plugin: a component has one kind";
            found.push(doc.at(&path, message, mend));
        }
    }
}
