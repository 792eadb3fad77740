//! What can go wrong with a plugin, as values that callers act on.
//!
//! Three enums because three callers differ: the process that can't have a plugin host at all, whoever stages a plugin, and whoever
//! calls one. Each variant has a stable `code()` for the API, incidents and metrics; the text is for people and says what to do next.

use std::path::PathBuf;
use std::time::Duration;

use host_domain::plugin::{Capability, PluginKind};

/// The plugin host itself can't start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine refused its settings.
    #[error("the WebAssembly engine does not start with these settings")]
    Engine(#[source] anyhow::Error),
    /// The cache folder can't be used.
    #[error(
        "the cache for compiled plugins at {} can't be used; make it a folder that this user owns",
        path.display()
    )]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The thread that measures the plugins' time can't be started.
    #[error("the thread that bounds the plugins' time does not start")]
    Thread(#[source] std::io::Error),
}

/// A plugin can't be loaded. It is a state of that plugin; everything else goes on.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file is larger than the operator allows.
    #[error(
        "the component has {bytes} bytes and the limit is {limit}; make it smaller or raise the limit"
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The bytes are not the ones that the configuration names.
    #[error(
        "the component's digest is {actual}, but {expected} is configured; fix the digest or get the right file"
    )]
    DigestMismatch {
        /// What the configuration says.
        expected: String,
        /// What the file has.
        actual: String,
    },
    /// Not a WebAssembly component, or one that uses what is switched off here.
    #[error("not a WebAssembly component that this host accepts: {reason}")]
    NotAComponent {
        /// What the validator says.
        reason: String,
    },
    /// It imports something that its world does not have.
    #[error(
        "the component imports `{import}`, which a {kind} can't have; build it against the world `{kind}`"
    )]
    ForbiddenImport {
        /// The import.
        import: String,
        /// The kind that it is loaded as.
        kind: PluginKind,
    },
    /// It imports or wants a capability that nobody granted.
    #[error(
        "the plugin needs `{capability}`, which is not granted; add it to its grants or take another plugin"
    )]
    MissingGrant {
        /// The capability, in the words of the YAML.
        capability: &'static str,
    },
    /// An entry of the grants can't be understood.
    #[error("the grant `{grant}` can't be used: {reason}")]
    BadGrant {
        /// The entry.
        grant: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A limit that this host can't give.
    #[error("the limit `{limit}` can't be used: {reason}")]
    BadLimit {
        /// Its name in the YAML.
        limit: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// It lacks an export of its world, or has it with another signature.
    #[error("the component does not implement the world `{kind}`: {reason}")]
    WrongWorld {
        /// The kind that it is loaded as.
        kind: PluginKind,
        /// What is missing.
        reason: String,
    },
    /// It says that it is of another kind.
    #[error("the plugin is a {actual}, but a {expected} is configured")]
    WrongKind {
        /// What the configuration says.
        expected: PluginKind,
        /// What `describe()` says.
        actual: PluginKind,
    },
    /// What it says about itself makes no sense.
    #[error("the plugin's own description can't be used: {reason}")]
    BadDescription {
        /// What is wrong.
        reason: String,
    },
    /// Its configuration does not fit its schema, or it refused it.
    #[error("the configuration{} is not right: {reason}", at(path))]
    BadConfig {
        /// JSON pointer into the configuration; empty for the whole.
        path: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The compiler refused it.
    #[error("the component does not compile: {reason}")]
    Compile {
        /// What the compiler says.
        reason: String,
    },
    /// Compiling took more time or memory than allowed.
    #[error(
        "compiling the component took more than {what}; it is too large or made to be expensive"
    )]
    CompileLimit {
        /// The limit.
        what: String,
    },
    /// It failed in the trial that precedes every use.
    #[error("the plugin failed its trial call of `{function}`")]
    Canary {
        /// The export.
        function: &'static str,
        /// How.
        #[source]
        source: CallError,
    },
    /// The cache or the compiler's process failed; not the plugin's fault.
    #[error("the plugin could not be prepared on this machine")]
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

/// Which clock ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeKind {
    /// Time in which the guest computed.
    Cpu,
    /// Time of the whole call.
    Wall,
}

/// Why a plugin says that it could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A field of its configuration can't be used.
    #[error("the configuration{} is not right: {reason}", at(path))]
    BadConfig {
        /// JSON pointer into the configuration.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The host refused it a capability.
    #[error("denied: {0}")]
    Denied(String),
    /// Something outside did not answer rightly.
    #[error("upstream: {0}")]
    Upstream(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// One call failed. The store it ran in is gone; the next call starts afresh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The guest broke: a bug in it.
    #[error("the plugin trapped: {reason}")]
    Trap {
        /// What the engine says.
        reason: String,
    },
    /// It ran out of time.
    #[error("the plugin took more than its {} of {}", time_word(*kind), millis(*limit))]
    OutOfTime {
        /// Which clock.
        kind: TimeKind,
        /// What it had.
        limit: Duration,
    },
    /// It asked for more memory than it may have.
    #[error("the plugin asked for more memory than its {limit_mib} MiB")]
    OutOfMemory {
        /// What it may have.
        limit_mib: u32,
    },
    /// It recursed too deep.
    #[error("the plugin exhausted its stack")]
    OutOfStack,
    /// It handed over more bytes than the host takes in one go.
    #[error("the plugin handed over more than {limit_kib} KiB in one go")]
    AnswerTooLarge {
        /// What is taken.
        limit_kib: u32,
    },
    /// It called the host too often.
    #[error("the plugin called the host more than {limit} times in one call")]
    TooManyHostCalls {
        /// What is allowed.
        limit: u32,
    },
    /// Its answer breaks the contract.
    #[error("the plugin's answer can't be used: {reason}")]
    BadAnswer {
        /// What is wrong with it.
        reason: String,
    },
    /// It answered that it can't.
    #[error("the plugin could not answer: {0}")]
    Failure(Failure),
    /// A plugin of this kind has no such function; a bug of the caller.
    #[error("a {kind} has no function `{function}`")]
    NoSuchFunction {
        /// The plugin's kind.
        kind: PluginKind,
        /// What was called.
        function: &'static str,
    },
    /// All places for calls were taken for as long as this call may last; not the plugin's fault.
    #[error("too many plugin calls run at once; the call was not made")]
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

    /// Whether the plugin's code is to blame, so that a breaker should count it. An upstream that is down is no fault of the plugin.
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
        TimeKind::Cpu => "computing time",
        TimeKind::Wall => "time for a call",
    }
}

fn millis(limit: Duration) -> String {
    format!("{} ms", limit.as_millis())
}

/// The name of a capability in the YAML and in errors.
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
