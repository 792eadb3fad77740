//! The names that templates can use: `.Ports`, `.Paths`, `.SyncData`, `.Inputs`, `.Node`, `.Binaries` and `.Version`.

use serde_json::{Map, Value, json};

use super::profile::{BinarySource, Profile};
use super::runtime::Runtime;
use super::step::TemplateValues;
use super::template::{TemplateFault, Templates};

/// All names, as mappings by their first part.
pub(super) fn names(
    profile: &Profile,
    runtime: &Runtime,
    node_type: &str,
    values: &TemplateValues,
) -> Value {
    let root = values.root.trim_end_matches('/');
    let folder = |path: &str| match path.trim_start_matches("./").trim_end_matches('/') {
        "" | "." => root.to_owned(),
        inner => format!("{root}/{inner}"),
    };
    let ports: Map<String, Value> = runtime
        .ports
        .iter()
        .map(|(name, port)| {
            (
                name.clone(),
                json!(values.ports.get(name).unwrap_or(&port.default)),
            )
        })
        .collect();
    let inputs: Map<String, Value> = profile
        .inputs
        .keys()
        .map(|name| {
            (
                name.clone(),
                json!(values.inputs.get(name).map_or("", String::as_str)),
            )
        })
        .collect();
    let sync_data = profile
        .node_types
        .get(node_type)
        .map(|kind| &kind.sync_data);
    let binaries: Map<String, Value> = profile
        .binaries
        .iter()
        .map(|(name, binary)| (name.clone(), binary_names(binary)))
        .collect();
    let mut names = json!({
        "Ports": ports,
        "Paths": {
            "home": folder(&runtime.paths.home),
            "data": folder(&runtime.paths.data),
            "config": folder(&runtime.paths.config),
        },
        "SyncData": sync_data.cloned().unwrap_or_default(),
        "Inputs": inputs,
        "Node": {
            "id": values.node_id,
            "chain": profile.chain_id,
            "type": node_type,
            "provider": values.provider,
            "region": values.region,
        },
        "Binaries": binaries,
    });
    // With several binaries, `.Version` would be ambiguous.
    if let [binary] = profile.binaries.values().collect::<Vec<_>>().as_slice() {
        names["Version"] = json!(binary.version);
    }
    names
}

/// A binary's names; values that the profile omits do not exist.
fn binary_names(binary: &BinarySource) -> Value {
    let mut names = json!({ "version": binary.version });
    if let Some(url) = binary
        .url_template
        .as_deref()
        .and_then(|url| binary_url(url, &binary.version).ok())
    {
        names["url"] = json!(url);
    }
    if let Some(checksum) = &binary.checksum {
        names["checksum"] = json!(checksum.as_str());
    }
    names
}

/// A binary's URL; its template may use only `.Version`.
pub(super) fn binary_url(template: &str, version: &str) -> Result<String, TemplateFault> {
    Templates::new(json!({ "Version": version })).render(template)
}
