//! Converts a plugin's own description with limits, because API, logs and metrics show it.

use host_domain::observation::ObservationKind;
use host_domain::plugin::{Capability, Description, ObservationSpec, PluginKind};

use crate::bindings::shared::exports::bellwether::types::about;
use crate::error::PluginError;

/// The maximum entries of `emits` and of `reads`.
const LIST_MAX: usize = 500;
/// The maximum bytes of a name, a version or a unit.
const WORD_BYTES_MAX: usize = 128;
/// The maximum bytes of a summary.
const SUMMARY_BYTES_MAX: usize = 1024;
/// The maximum bytes of the configuration's schema.
const SCHEMA_BYTES_MAX: usize = 128 << 10;

/// Converts a description, or reports its first invalid part.
pub(crate) fn convert(said: about::Description) -> Result<Description, PluginError> {
    if !is_id(&said.name) {
        return Err(bad(format!(
            "the name `{}` may contain only [a-z0-9-]",
            said.name.escape_debug()
        )));
    }
    bounded("version", &said.version, WORD_BYTES_MAX)?;
    bounded("summary", &said.summary, SUMMARY_BYTES_MAX)?;
    bounded("config-schema", &said.config_schema, SCHEMA_BYTES_MAX)?;
    if said.emits.len() > LIST_MAX || said.reads.len() > LIST_MAX {
        return Err(bad(format!(
            "`emits` and `reads` may have at most {LIST_MAX} entries each"
        )));
    }
    for read in &said.reads {
        bounded("reads", read, WORD_BYTES_MAX)?;
    }
    Ok(Description {
        name: said.name,
        version: said.version,
        kind: kind(said.kind),
        summary: said.summary,
        config_schema: said.config_schema,
        wants: said.wants.into_iter().map(capability).collect(),
        emits: said
            .emits
            .into_iter()
            .map(observation)
            .collect::<Result<_, _>>()?,
        reads: said.reads,
    })
}

fn bad(reason: String) -> PluginError {
    PluginError::BadDescription { reason }
}

fn bounded(what: &str, text: &str, max: usize) -> Result<(), PluginError> {
    if text.len() > max {
        return Err(bad(format!(
            "`{what}` has {} bytes; the maximum is {max}",
            text.len()
        )));
    }
    Ok(())
}

fn is_id(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(is_letter)
}

fn observation(spec: about::ObservationSpec) -> Result<ObservationSpec, PluginError> {
    bounded("emits.name", &spec.name, WORD_BYTES_MAX)?;
    bounded("emits.unit", &spec.unit, WORD_BYTES_MAX)?;
    bounded("emits.summary", &spec.summary, SUMMARY_BYTES_MAX)?;
    let kind = match spec.kind {
        about::ObservationKind::Gauge => ObservationKind::Gauge,
        about::ObservationKind::Counter => ObservationKind::Counter,
        about::ObservationKind::State => ObservationKind::State,
    };
    Ok(ObservationSpec {
        name: spec.name,
        unit: spec.unit,
        kind,
        summary: spec.summary,
    })
}

fn kind(kind: about::PluginKind) -> PluginKind {
    match kind {
        about::PluginKind::Collector => PluginKind::Collector,
        about::PluginKind::HealthPolicy => PluginKind::HealthPolicy,
        about::PluginKind::Notifier => PluginKind::Notifier,
    }
}

fn capability(capability: about::Capability) -> Capability {
    match capability {
        about::Capability::Log => Capability::Log,
        about::Capability::Clock => Capability::Clock,
        about::Capability::Metrics => Capability::Metrics,
        about::Capability::Facts => Capability::Facts,
        about::Capability::Kv => Capability::Kv,
        about::Capability::Secrets => Capability::Secrets,
        about::Capability::Http => Capability::Http,
    }
}
