//! Reads what a component imports from its bytes, before anything compiles them.
//!
//! The imports, not the plugin's own description, determine what it could do. Interfaces with types only grant
//! nothing, and using the types of `secrets` inside `http` does not allow to request a secret.

use std::collections::BTreeSet;

use host_domain::plugin::{Capability, Grants, PluginKind};
use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType};
use wasmparser::{ComponentTypeRef, Parser, Payload, ValidPayload, Validator, WasmFeatures};

use crate::capability::world_of;
use crate::error::{PluginError, capability_name};
use crate::load::Digest;

/// The imports and exports of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Size.
    pub bytes: u64,
    /// All that it imports, by name.
    pub imports: Vec<String>,
    /// All that it exports, by name.
    pub exports: Vec<String>,
    /// The capabilities whose functions it imports.
    pub capabilities: BTreeSet<Capability>,
}

/// Validates a component and reads its imports and exports.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, PluginError> {
    let invalid = |error: wasmparser::BinaryReaderError| PluginError::NotAComponent {
        reason: error.to_string(),
    };
    if !Parser::is_component(bytes) {
        return Err(PluginError::NotAComponent {
            reason: "the file is not a component; build it with `bellwether plugin build`".into(),
        });
    }
    let mut found = Inspection {
        digest: Digest::of(bytes),
        bytes: bytes.len() as u64,
        imports: vec![],
        exports: vec![],
        capabilities: BTreeSet::new(),
    };
    let mut validator = Validator::new_with_features(features());
    let mut allocations = wasmparser::FuncValidatorAllocations::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(invalid)?;
        let first_instance = validator
            .types(0)
            .filter(|_| depth == 0)
            .map_or(0, |types| types.component_instance_count());
        match validator.payload(&payload).map_err(invalid)? {
            ValidPayload::Func(function, body) => {
                let mut function = function.into_validator(std::mem::take(&mut allocations));
                function.validate(&body).map_err(invalid)?;
                allocations = function.into_allocations();
            }
            ValidPayload::Parser(_) => depth += 1,
            ValidPayload::End(_) => depth = depth.saturating_sub(1),
            ValidPayload::Ok => {}
        }
        if depth > 0 {
            continue;
        }
        match payload {
            Payload::ComponentImportSection(section) => {
                read_imports(&mut found, &validator, section, first_instance).map_err(invalid)?;
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    found
                        .exports
                        .push(export.map_err(invalid)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn read_imports(
    found: &mut Inspection,
    validator: &Validator,
    section: wasmparser::ComponentImportSectionReader<'_>,
    first_instance: u32,
) -> wasmparser::Result<()> {
    let mut instance = first_instance;
    for import in section {
        let import = import?;
        let name = import.name.name;
        found.imports.push(name.to_owned());
        if !matches!(import.ty, ComponentTypeRef::Instance(_)) {
            continue;
        }
        let has_functions = validator.types(0).is_some_and(|types| {
            types
                .get(types.component_instance_at(instance))
                .is_some_and(|instance| instance.exports.values().any(|item| !is_harmless(item.ty)))
        });
        instance += 1;
        if let (true, Some(capability)) = (has_functions, capability_of(name)) {
            found.capabilities.insert(capability);
        }
    }
    Ok(())
}

/// Importing a type grants nothing.
fn is_harmless(item: ComponentEntityType) -> bool {
    matches!(
        item,
        ComponentEntityType::Type {
            created: ComponentAnyTypeId::Defined(_) | ComponentAnyTypeId::Resource(_),
            ..
        }
    )
}

/// Rejects imports that the kind's world lacks, and imports without a grant.
pub(crate) fn check_imports(
    found: &Inspection,
    kind: PluginKind,
    grants: &Grants,
) -> Result<(), PluginError> {
    let world = world_of(kind);
    for import in &found.imports {
        let is_known = import.starts_with("bellwether:types/")
            || capability_of(import).is_some_and(|capability| world.contains(&capability));
        if !is_known {
            return Err(PluginError::ForbiddenImport {
                import: import.clone(),
                kind,
            });
        }
    }
    // Secrets are granted and denied by name at each use, so a plugin that can use secrets need not have any.
    let mut needed = found.capabilities.clone();
    needed.remove(&Capability::Secrets);
    check_grants(&needed, grants)
}

/// Rejects capabilities without a grant.
pub(crate) fn check_grants(
    needed: &BTreeSet<Capability>,
    grants: &Grants,
) -> Result<(), PluginError> {
    match needed.difference(&grants.capabilities()).next() {
        Some(missing) => Err(PluginError::MissingGrant {
            capability: capability_name(*missing),
        }),
        None => Ok(()),
    }
}

/// The capability behind an interface of `bellwether:host`.
fn capability_of(import: &str) -> Option<Capability> {
    let interface = import
        .strip_prefix("bellwether:host/")?
        .strip_suffix("@0.1.0")?;
    let all = [
        Capability::Log,
        Capability::Clock,
        Capability::Metrics,
        Capability::Facts,
        Capability::Kv,
        Capability::Secrets,
        Capability::Http,
    ];
    all.into_iter()
        .find(|capability| capability_name(*capability) == interface)
}

/// The engine's features, so that this validator and the engine agree.
fn features() -> WasmFeatures {
    let mut features = WasmFeatures::WASM2 | WasmFeatures::COMPONENT_MODEL;
    features |= WasmFeatures::MULTI_MEMORY | WasmFeatures::TAIL_CALL | WasmFeatures::EXTENDED_CONST;
    features
}

#[cfg(test)]
mod tests;
