//! Why a command failed, and the exit code by which a script tells.

use std::fmt::Write;

use crate::api::ProblemBody;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The host refused.
    #[error("{}", of_problem(.0))]
    Problem(Box<ProblemBody>),
    /// Nobody answers there.
    #[error(
        "no host answers at {url}\n  Start one with `bellwether dev`, or name another with --host or BELLWETHER_HOST."
    )]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Nothing says where the host is, or what the key is.
    #[error("{0}")]
    NotFoundHere(String),
    /// The work failed, or did not end in time.
    #[error("{0}")]
    Failed(String),
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl CliError {
    /// 1 failed · 2 usage · 3 not found · 4 not allowed · 5 conflict · 6 not reachable.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Problem(problem) => match problem.status {
                400 | 405 | 413 | 415 => 2,
                404 => 3,
                401 | 403 => 4,
                409 | 412 => 5,
                503 => 6,
                _ => 1,
            },
            Self::Unreachable { .. } => 6,
            Self::NotFoundHere(_) => 2,
            Self::Failed(_) | Self::Other(_) => 1,
        }
    }
}

fn of_problem(problem: &ProblemBody) -> String {
    let mut text = format!("{}\n  {}", problem.title, problem.detail);
    for error in &problem.errors {
        let name = error
            .pointer
            .as_deref()
            .or(error.parameter.as_deref())
            .unwrap_or("");
        // Writing to a String can't fail.
        let _ = write!(text, "\n  - {name}: {}", error.detail);
    }
    if let Some(next) = next_step(problem.code()) {
        let _ = write!(text, "\n  {next}");
    }
    if problem.status >= 500 && !problem.instance.is_empty() {
        let _ = write!(text, "\n  request {}", problem.instance);
    }
    text
}

/// What a person at a terminal does next, where the detail can't know it.
fn next_step(code: &str) -> Option<&'static str> {
    match code {
        "unauthenticated" => Some(
            "Use the key of this host: run in its folder, or set --key-file or BELLWETHER_KEY_FILE.",
        ),
        "missing_scope" => {
            Some("Use another key with --key-file; `/api/v1/me` shows what a key may do.")
        }
        "not_found" => Some("The `list` command of the same noun shows what there is."),
        "unavailable" | "timed_out" => {
            Some("Try again in a few seconds; `/readyz` of the host shows what is away.")
        }
        _ => None,
    }
}
