//! The errors of plugins, as values that callers act on.
//!
//! There are three enums because there are three callers: the process that starts the plugin host, the code that
//! loads a plugin, and the code that calls one. Each variant has a stable `code()` for the API, incidents and
//! metrics; the text is for people and says what to do.

use std::path::PathBuf;
use std::time::Duration;

use host_domain::plugin::{Capability, PluginKind};

/// Why the plugin host can't start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine rejected its settings.
    #[error("the WebAssembly engine can't start with its settings")]
    Engine(#[source] anyhow::Error),
    /// The cache folder is not usable.
    #[error(
        "the host can't use {} as the cache of compiled plugins; make it a folder that only this user can access",
        path.display()
    )]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The thread that measures the plugins' CPU time can't start.
    #[error("the thread that limits the plugins' CPU time can't start")]
    Thread(#[source] std::io::Error),
}

/// Why a plugin can't be loaded. It affects only that plugin.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file is too large.
    #[error(
        "the component has {bytes} bytes, more than the limit of {limit}; make it smaller or raise the limit"
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The digest differs from the configured one.
    #[error(
        "the component has the digest {actual}, but the configuration has {expected}; correct the digest or use the right file"
    )]
    DigestMismatch {
        /// The configured digest.
        expected: String,
        /// The file's digest.
        actual: String,
    },
    /// Not a WebAssembly component, or one with features that this host disables.
    #[error("the file is not a WebAssembly component that this host accepts: {reason}")]
    NotAComponent {
        /// The validator's message.
        reason: String,
    },
    /// It imports an interface that its world lacks.
    #[error(
        "the component imports `{import}`, which the world `{kind}` does not have; build it against the world `{kind}`"
    )]
    ForbiddenImport {
        /// The import.
        import: String,
        /// The kind that it is loaded as.
        kind: PluginKind,
    },
    /// It imports or requires a capability without a grant.
    #[error(
        "the plugin needs `{capability}`, which is not granted; add it to `grants` or use another plugin"
    )]
    MissingGrant {
        /// The capability's name in YAML.
        capability: &'static str,
    },
    /// An entry of the grants is invalid.
    #[error("the grant `{grant}` is invalid: {reason}")]
    BadGrant {
        /// The entry.
        grant: String,
        /// What is wrong and how to fix it.
        reason: String,
    },
    /// A limit that this host can't provide.
    #[error("the limit `{limit}` is invalid: {reason}")]
    BadLimit {
        /// Its name in YAML.
        limit: &'static str,
        /// What is wrong and how to fix it.
        reason: String,
    },
    /// An export of its world is missing or has another signature.
    #[error("the component does not implement the world `{kind}`: {reason}")]
    WrongWorld {
        /// The kind that it is loaded as.
        kind: PluginKind,
        /// What is missing.
        reason: String,
    },
    /// It describes itself as another kind.
    #[error("the plugin is a {actual}, but the configuration uses it as a {expected}")]
    WrongKind {
        /// The configured kind.
        expected: PluginKind,
        /// The kind in `describe()`.
        actual: PluginKind,
    },
    /// Its description is invalid.
    #[error("the plugin's description is invalid: {reason}")]
    BadDescription {
        /// What is wrong.
        reason: String,
    },
    /// Its configuration does not match its schema, or the plugin rejected it.
    #[error("the configuration{} is invalid: {reason}", at(path))]
    BadConfig {
        /// JSON pointer into the configuration; empty for the whole configuration.
        path: String,
        /// What is wrong and how to fix it.
        reason: String,
    },
    /// The compiler rejected it.
    #[error("the component does not compile: {reason}")]
    Compile {
        /// The compiler's message.
        reason: String,
    },
    /// Compiling exceeded a limit.
    #[error("compiling the component took more than {what}; the component is too large or hostile")]
    CompileLimit {
        /// The limit.
        what: String,
    },
    /// It failed in the trial call before its first use.
    #[error("the plugin failed its trial call of `{function}`")]
    Canary {
        /// The export.
        function: &'static str,
        /// How.
        #[source]
        source: CallError,
    },
    /// The cache or the compiler's process failed, which is not the plugin's fault.
    #[error("the host could not prepare the plugin")]
    Internal(#[source] anyhow::Error),
}

fn at(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!(" at `{path}`")
    }
}

impl PluginError {
    /// The stable name of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "plugin_too_large",
            Self::DigestMismatch { .. } => "plugin_digest_mismatch",
            Self::NotAComponent { .. } => "plugin_not_a_component",
            Self::ForbiddenImport { .. } => "plugin_forbidden_import",
            Self::MissingGrant { .. } => "plugin_missing_grant",
            Self::BadGrant { .. } => "plugin_bad_grant",
            Self::BadLimit { .. } => "plugin_bad_limit",
            Self::WrongWorld { .. } => "plugin_wrong_world",
            Self::WrongKind { .. } => "plugin_wrong_kind",
            Self::BadDescription { .. } => "plugin_bad_description",
            Self::BadConfig { .. } => "plugin_bad_config",
            Self::Compile { .. } => "plugin_compile",
            Self::CompileLimit { .. } => "plugin_compile_limit",
            Self::Canary { source, .. } => source.code(),
            Self::Internal(_) => "plugin_internal",
        }
    }
}

/// The clock that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeKind {
    /// Time in which the guest computed.
    Cpu,
    /// Time of the whole call.
    Wall,
}

/// Why a plugin reports a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A field of its configuration is invalid.
    #[error("the configuration{} is invalid: {reason}", at(path))]
    BadConfig {
        /// JSON pointer into the configuration.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The host denied it a capability.
    #[error("denied: {0}")]
    Denied(String),
    /// An external service failed.
    #[error("upstream: {0}")]
    Upstream(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Why one call failed. Its store is gone; the next call starts with a new one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The guest trapped because of a bug.
    #[error("the plugin trapped: {reason}")]
    Trap {
        /// The engine's message.
        reason: String,
    },
    /// It exceeded a time limit.
    #[error("the plugin exceeded its {} limit of {}", time_word(*kind), millis(*limit))]
    OutOfTime {
        /// Which clock.
        kind: TimeKind,
        /// The limit.
        limit: Duration,
    },
    /// It exceeded its memory limit.
    #[error("the plugin exceeded its memory limit of {limit_mib} MiB")]
    OutOfMemory {
        /// The limit.
        limit_mib: u32,
    },
    /// Its recursion was too deep.
    #[error("the plugin exhausted its stack")]
    OutOfStack,
    /// It passed more bytes than the host accepts at once.
    #[error("the plugin passed more than {limit_kib} KiB to the host at once")]
    AnswerTooLarge {
        /// The limit.
        limit_kib: u32,
    },
    /// It called the host too often.
    #[error("the plugin exceeded its limit of {limit} host calls in one call")]
    TooManyHostCalls {
        /// The limit.
        limit: u32,
    },
    /// Its answer is invalid.
    #[error("the plugin's answer is invalid: {reason}")]
    BadAnswer {
        /// What is wrong with it.
        reason: String,
    },
    /// It reported a failure.
    #[error("the plugin reported a failure: {0}")]
    Failure(Failure),
    /// A plugin of this kind has no such function; a bug of the caller.
    #[error("a {kind} has no function `{function}`")]
    NoSuchFunction {
        /// The plugin's kind.
        kind: PluginKind,
        /// The function.
        function: &'static str,
    },
    /// All slots were taken for as long as this call may last, which is not the plugin's fault.
    #[error("too many plugin calls run at once, so the host did not make this one; retry later")]
    Busy,
}

impl CallError {
    /// The stable name of the error; also the `outcome` label of the metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "plugin_trap",
            Self::OutOfTime { .. } => "plugin_out_of_time",
            Self::OutOfMemory { .. } => "plugin_out_of_memory",
            Self::OutOfStack => "plugin_out_of_stack",
            Self::AnswerTooLarge { .. } => "plugin_answer_too_large",
            Self::TooManyHostCalls { .. } => "plugin_too_many_host_calls",
            Self::BadAnswer { .. } => "plugin_bad_answer",
            Self::Failure(Failure::BadConfig { .. }) => "plugin_bad_config",
            Self::Failure(Failure::Denied(_)) => "plugin_denied",
            Self::Failure(Failure::Upstream(_)) => "plugin_upstream",
            Self::Failure(Failure::Other(_)) => "plugin_failed",
            Self::NoSuchFunction { .. } => "plugin_no_such_function",
            Self::Busy => "plugin_busy",
        }
    }

    /// Whether the plugin's code is at fault, so that a circuit breaker should count it. An unavailable upstream is
    /// not.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Trap { .. }
            | Self::OutOfTime { .. }
            | Self::OutOfMemory { .. }
            | Self::OutOfStack
            | Self::AnswerTooLarge { .. }
            | Self::TooManyHostCalls { .. }
            | Self::BadAnswer { .. }
            | Self::Failure(Failure::BadConfig { .. } | Failure::Denied(_)) => true,
            Self::Failure(Failure::Upstream(_) | Failure::Other(_))
            | Self::NoSuchFunction { .. }
            | Self::Busy => false,
        }
    }
}

fn time_word(kind: TimeKind) -> &'static str {
    match kind {
        TimeKind::Cpu => "CPU time",
        TimeKind::Wall => "wall time",
    }
}

fn millis(limit: Duration) -> String {
    format!("{} ms", limit.as_millis())
}

/// The name of a capability in YAML and in errors.
pub(crate) fn capability_name(capability: Capability) -> &'static str {
    match capability {
        Capability::Log => "log",
        Capability::Clock => "clock",
        Capability::Metrics => "metrics",
        Capability::Facts => "facts",
        Capability::Kv => "kv",
        Capability::Secrets => "secrets",
        Capability::Http => "http",
    }
}
