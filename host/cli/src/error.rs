//! Errors of commands, and the exit codes by which a script tells them apart.

use std::fmt::Write;

use host_wire::{Code, FieldError, ProblemBody};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The host refused the request.
    #[error("{}", of_problem(.0))]
    Problem(Box<ProblemBody>),
    /// No host answers.
    #[error(
        "no host answers at {url}\n  Start one with `bellwether dev`, or name another one with --host or BELLWETHER_HOST."
    )]
    Unreachable {
        /// The URL of the host.
        url: String,
        /// Why the request failed.
        #[source]
        source: reqwest::Error,
    },
    /// The command lacks an argument, such as where the host is.
    #[error("{0}")]
    Usage(String),
    /// The work failed, or did not end in time.
    #[error("{0}")]
    Failed(String),
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl CliError {
    /// 1 failed · 2 usage · 3 not found · 4 not allowed · 5 conflict · 6 host unavailable.
    pub fn exit_code(&self) -> u8 {
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
            Self::Usage(_) => 2,
            Self::Failed(_) | Self::Other(_) => 1,
        }
    }
}

fn of_problem(problem: &ProblemBody) -> String {
    let mut text = format!("{}\n  {}", problem.title, problem.detail);
    // The detail states the first error already.
    let is_new = |error: &&FieldError| !problem.detail.contains(&error.detail);
    for error in problem.errors.iter().filter(is_new) {
        let name = error.pointer.as_deref().or(error.parameter.as_deref());
        let name = name.unwrap_or_default();
        // Writing to a String can't fail.
        let _ = write!(text, "\n  - {name}: {}", error.detail);
    }
    if let Some(next) = problem.code().and_then(next_step) {
        let _ = write!(text, "\n  {next}");
    }
    if problem.status >= 500 && !problem.instance.is_empty() {
        let _ = write!(text, "\n  request {}", problem.instance);
    }
    text
}

/// What a person at a terminal does next, where the host can't know it.
fn next_step(code: Code) -> Option<&'static str> {
    match code {
        Code::Unauthenticated => Some(
            "Use an API key of this host: run the command in the host's folder, or set --key-file or BELLWETHER_KEY_FILE.",
        ),
        Code::MissingScope => {
            Some("Use another key with --key-file; `/api/v1/me` shows the scopes of a key.")
        }
        Code::NotFound => Some("The `list` command of the same noun shows what exists."),
        Code::Unavailable | Code::TimedOut => Some(
            "Retry in a few seconds; `/readyz` of the host shows which of its parts is unavailable.",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(detail: &str, errors: &[(&str, &str)]) -> String {
        let errors = errors.iter().map(|(pointer, detail)| FieldError {
            pointer: Some((*pointer).to_owned()),
            parameter: None,
            detail: (*detail).to_owned(),
        });
        let problem = ProblemBody {
            kind: "/problems/invalid_request".to_owned(),
            title: "Title".to_owned(),
            status: 400,
            detail: detail.to_owned(),
            instance: String::new(),
            errors: errors.collect(),
        };
        CliError::Problem(Box::new(problem)).to_string()
    }

    #[test]
    fn a_refused_field_is_stated_once_and_further_ones_are_listed() {
        let unknown = ("/chain", "is unknown");
        let one = refused("`/chain`: is unknown", &[unknown]);
        assert_eq!(one, "Title\n  `/chain`: is unknown");
        let two = refused("`/chain`: is unknown", &[unknown, ("/name", "is taken")]);
        assert_eq!(two, "Title\n  `/chain`: is unknown\n  - /name: is taken");
    }
}
