//! Calls health policies: a sheet in, one verdict per row out.
//!
//! The host splits a sheet into chunks, so that a trap or a timeout affects one chunk. It halves a failing chunk
//! until the failing row is alone; that row gets the error and all others their verdicts.

use host_domain::incident::Severity;
use host_domain::node::Reason;
use host_domain::observation::Scalar;
use host_domain::time::Millis;

use crate::bindings::policy::exports::bellwether::policy::judge;
use crate::bindings::shared::bellwether::types::observations::Scalar as WitScalar;
use crate::call::cut_owned;
use crate::error::{CallError, Failure};
use crate::plugin::Plugin;

/// The maximum rows of one call.
pub(crate) const CHUNK_ROWS_MAX: usize = 256;
/// The number of failed calls of one chunk after which its remaining rows get the error without another call: a
/// policy that fails on every row must not cost a call's time for each.
const CHUNK_FAILURES_MAX: usize = 32;
/// The maximum reasons, and incidents, of one verdict.
const NOTES_MAX: usize = 32;
/// The maximum bytes of a code or a category.
const CODE_BYTES_MAX: usize = 128;
/// The maximum bytes of a message or a title; the rest is truncated.
const MESSAGE_BYTES_MAX: usize = 1024;

/// A batch of nodes as columns: the names once, and one row of values per node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sheet {
    /// The time of the evaluation; a policy has no clock.
    pub now: Millis,
    /// The columns that the policy reads.
    pub names: Vec<String>,
    /// One value per name, in their order.
    pub rows: Vec<Vec<Scalar>>,
}

/// The health of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The node works.
    Ok,
    /// The node works with problems.
    Degraded,
    /// The node does not work.
    Critical,
}

/// Whether a node follows its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// The policy can't judge.
    Unknown,
    /// The node is behind its chain.
    Syncing,
    /// The node is at the chain's head.
    Synced,
}

/// An incident that the policy raises itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentNote {
    /// The plugin's name of the incident, with or without `x-<plugin>-`.
    pub category: String,
    /// Its severity.
    pub severity: Severity,
    /// One line for people.
    pub title: String,
}

/// The policy's verdict about one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The node's health.
    pub health: Health,
    /// Whether it follows its chain.
    pub sync: Sync,
    /// Why.
    pub reasons: Vec<Reason>,
    /// Additional incidents.
    pub incidents: Vec<IncidentNote>,
}

/// A sheet without any values, which every policy must be able to evaluate.
pub(crate) fn canary(names: &[String], n_rows: usize) -> Sheet {
    Sheet {
        now: Millis(0),
        names: names.to_vec(),
        rows: vec![vec![Scalar::Absent; names.len()]; n_rows],
    }
}

impl Plugin {
    /// Evaluates every row, or fails with the first chunk that fails.
    pub async fn evaluate(&self, sheet: &Sheet) -> Result<Vec<Verdict>, CallError> {
        let mut verdicts = Vec::with_capacity(sheet.rows.len());
        if sheet.rows.is_empty() {
            return self.judge(sheet, &sheet.rows).await;
        }
        for rows in sheet.rows.chunks(CHUNK_ROWS_MAX) {
            verdicts.extend(self.judge(sheet, rows).await?);
        }
        Ok(verdicts)
    }

    /// Evaluates every row independently: one result per row, and a failing row affects no other.
    pub async fn evaluate_all(&self, sheet: &Sheet) -> Vec<Result<Verdict, CallError>> {
        let mut verdicts = Vec::with_capacity(sheet.rows.len());
        for rows in sheet.rows.chunks(CHUNK_ROWS_MAX) {
            self.bisect(sheet, rows, &mut verdicts).await;
        }
        verdicts
    }

    /// Halves a failing chunk, from left to right, so that verdicts keep the order of the rows.
    async fn bisect(
        &self,
        sheet: &Sheet,
        rows: &[Vec<Scalar>],
        verdicts: &mut Vec<Result<Verdict, CallError>>,
    ) {
        let mut failures = 0;
        let mut todo = vec![rows];
        while let Some(rows) = todo.pop() {
            let error = match self.judge(sheet, rows).await {
                Ok(judged) => {
                    verdicts.extend(judged.into_iter().map(Ok));
                    continue;
                }
                Err(error) => error,
            };
            failures += 1;
            if is_of_all_rows(&error) || failures >= CHUNK_FAILURES_MAX {
                let left: usize = rows.len() + todo.iter().map(|rows| rows.len()).sum::<usize>();
                verdicts.extend(std::iter::repeat_n(Err(error), left));
                return;
            }
            if rows.len() <= 1 {
                verdicts.push(Err(error));
                continue;
            }
            let (left, right) = rows.split_at(rows.len() / 2);
            todo.extend([right, left]);
        }
    }

    async fn judge(&self, sheet: &Sheet, rows: &[Vec<Scalar>]) -> Result<Vec<Verdict>, CallError> {
        let linked = self.health_policy()?;
        let sheet = judge::Sheet {
            now_ms: sheet.now.0,
            names: sheet.names.clone(),
            rows: rows
                .iter()
                .map(|row| judge::Row {
                    values: row.iter().map(scalar).collect(),
                })
                .collect(),
        };
        let n_rows = rows.len();
        self.caller()
            .call(
                "evaluate",
                self.caller().no_node(),
                |mut store| async move {
                    let answer = async {
                        let plugin = linked.instantiate_async(&mut store).await?;
                        let judge = plugin.bellwether_policy_judge();
                        if let Err(failure) =
                            judge.call_configure(&mut store, self.config()).await?
                        {
                            return Ok(Err(failure));
                        }
                        judge.call_evaluate(&mut store, &sheet).await
                    };
                    let answer = answer.await;
                    (store, answer)
                },
                |judged| take_over(judged, n_rows),
            )
            .await
    }
}

fn take_over(judged: Vec<judge::Verdict>, n_rows: usize) -> Result<Vec<Verdict>, CallError> {
    if judged.len() != n_rows {
        let reason = format!(
            "the plugin returned {} verdicts for {n_rows} rows",
            judged.len()
        );
        return Err(CallError::BadAnswer { reason });
    }
    judged.into_iter().map(verdict).collect()
}

/// Whether halving the rows can't help.
fn is_of_all_rows(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Busy
            | CallError::NoSuchFunction { .. }
            | CallError::Failure(Failure::BadConfig { .. })
    )
}

fn scalar(value: &Scalar) -> WitScalar {
    match value {
        Scalar::Absent => WitScalar::Absent,
        Scalar::Flag(flag) => WitScalar::Flag(*flag),
        Scalar::Int(int) => WitScalar::Int(*int),
        Scalar::Real(real) => WitScalar::Real(*real),
        Scalar::Text(text) => WitScalar::Text(text.clone()),
    }
}

fn verdict(said: judge::Verdict) -> Result<Verdict, CallError> {
    let bad = |reason: String| Err(CallError::BadAnswer { reason });
    if said.reasons.len() > NOTES_MAX || said.incidents.len() > NOTES_MAX {
        return bad(format!(
            "a verdict has more than {NOTES_MAX} reasons or incidents"
        ));
    }
    let codes = said.reasons.iter().map(|reason| &reason.code);
    let categories = said.incidents.iter().map(|incident| &incident.category);
    if let Some(word) = codes.chain(categories).find(|word| !is_code(word)) {
        return bad(format!(
            "`{}` is not a valid code; use 1 to {CODE_BYTES_MAX} characters of [a-z0-9_-]",
            cut_owned(word, CODE_BYTES_MAX).escape_debug()
        ));
    }
    Ok(Verdict {
        health: match said.health {
            judge::Health::Ok => Health::Ok,
            judge::Health::Degraded => Health::Degraded,
            judge::Health::Critical => Health::Critical,
        },
        sync: match said.sync {
            judge::Sync::Unknown => Sync::Unknown,
            judge::Sync::Syncing => Sync::Syncing,
            judge::Sync::Synced => Sync::Synced,
        },
        reasons: said
            .reasons
            .into_iter()
            .map(|reason| Reason::new(reason.code, cut_owned(&reason.message, MESSAGE_BYTES_MAX)))
            .collect(),
        incidents: said.incidents.into_iter().map(incident).collect(),
    })
}

fn incident(said: judge::Incident) -> IncidentNote {
    let severity = match said.severity {
        judge::Severity::Info => Severity::Info,
        judge::Severity::Warning => Severity::Warning,
        judge::Severity::Critical => Severity::Critical,
    };
    IncidentNote {
        category: said.category,
        severity,
        title: cut_owned(&said.title, MESSAGE_BYTES_MAX),
    }
}

fn is_code(word: &str) -> bool {
    let is_letter = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
    };
    !word.is_empty() && word.len() <= CODE_BYTES_MAX && word.bytes().all(is_letter)
}
