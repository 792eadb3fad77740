//! A health policy that misbehaves in the way its configuration names.
//!
//! It stands on the bindings and not on the SDK's trait, because the trait would never let it answer with the wrong
//! number of rows.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::sync::OnceLock;

use bellwether_plugin_sdk::bindings::about::exports::bellwether::types::about;
use bellwether_plugin_sdk::bindings::policy::exports::bellwether::policy::judge;
use bellwether_plugin_sdk::policy::{Sync, Verdict};
use bellwether_plugin_sdk::{Failure, Scalar};

/// The height at which the act `poison` traps.
const POISON_HEIGHT: i64 = 666;
/// The height at which it names its own incident.
const INCIDENT_HEIGHT: i64 = 13;

/// How to misbehave.
#[derive(serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    /// Judges every node as healthy.
    Behave,
    /// Computes without end.
    Loop,
    /// Ends in a trap.
    Trap,
    /// Traps at the row whose height is 666 and judges the others as healthy.
    Poison,
    /// Answers with one row too few.
    RowsMissing,
    /// Answers with one row too many.
    RowsExtra,
    /// Refuses every batch with a failure.
    Fail,
    /// Takes memory without end.
    Memory,
    /// Answers with more than the host takes.
    Answer,
    /// Calls itself without end.
    Recurse,
}

#[derive(serde::Deserialize)]
struct Config {
    act: Act,
    /// Behaves until a node has this height, so that the trial before it is taken into use goes well.
    from_height: Option<i64>,
    /// A reason code that every verdict carries, by which a test tells revisions apart.
    mark: Option<String>,
    /// An incident of its own that it names for a node of height 13.
    incident: Option<String>,
}

impl Config {
    fn has_begun(&self, sheet: &judge::Sheet) -> bool {
        let Some(from) = self.from_height else {
            return true;
        };
        let is_reached = |row: &judge::Row| matches!(row.values.first(), Some(Scalar::Int(height)) if *height >= from);
        sheet.rows.iter().any(is_reached)
    }
}

static CONFIG: OnceLock<Config> = OnceLock::new();

struct HostilePolicy;

impl about::Guest for HostilePolicy {
    fn describe() -> about::Description {
        about::Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            kind: about::PluginKind::HealthPolicy,
            summary: env!("CARGO_PKG_DESCRIPTION").into(),
            config_schema: r#"{"type": "object", "required": ["act"], "properties": {"act": {"type": "string"}, "from_height": {"type": "integer"}, "mark": {"type": "string"}, "incident": {"type": "string"}}}"#.into(),
            wants: Vec::new(),
            emits: Vec::new(),
            reads: vec!["node.height@last".into()],
        }
    }
}

impl judge::Guest for HostilePolicy {
    fn configure(config: String) -> Result<(), Failure> {
        let config = serde_json::from_str(&config)
            .map_err(|error| Failure::bad_config("/act", error.to_string()))?;
        CONFIG
            .set(config)
            .map_err(|_| Failure::other("configured twice"))
    }

    fn evaluate(sheet: judge::Sheet) -> Result<Vec<Verdict>, Failure> {
        let config = CONFIG
            .get()
            .ok_or_else(|| Failure::other("not configured"))?;
        let mut verdicts: Vec<Verdict> =
            sheet.rows.iter().map(|row| verdict(config, row)).collect();
        match config.act {
            _ if !config.has_begun(&sheet) => {}
            Act::Behave => {}
            Act::Loop => loop {
                black_box(());
            },
            Act::Trap => panic!("a trap was asked for"),
            Act::Poison => sheet.rows.iter().for_each(trap_on_poison),
            Act::RowsMissing => {
                verdicts.pop();
            }
            Act::RowsExtra => verdicts.push(Verdict::ok(Sync::Synced)),
            Act::Fail => return Err(Failure::other("a failure was asked for")),
            Act::Answer => verdicts.iter_mut().for_each(|verdict| {
                verdict.reasons.push(reason("huge", "x".repeat(6 << 20)));
            }),
            Act::Recurse => {
                black_box(ackermann(4, black_box(5)));
            }
            Act::Memory => {
                let mut taken: Vec<Vec<u8>> = Vec::new();
                loop {
                    taken.push(black_box(vec![1; 1 << 20]));
                }
            }
        }
        Ok(verdicts)
    }
}

fn verdict(config: &Config, row: &judge::Row) -> Verdict {
    let mut verdict = Verdict::ok(Sync::Synced);
    if let Some(mark) = &config.mark {
        verdict
            .reasons
            .push(reason(mark, "the mark of this revision".into()));
    }
    if let (Some(name), Some(Scalar::Int(INCIDENT_HEIGHT))) = (&config.incident, row.values.first())
    {
        verdict.incidents.push(judge::Incident {
            category: name.clone(),
            severity: judge::Severity::Warning,
            title: "an incident was asked for".into(),
        });
    }
    verdict
}

fn reason(code: &str, message: String) -> judge::Reason {
    judge::Reason {
        code: code.into(),
        message,
    }
}

/// Deep without any use of linear memory, so that the limit on the machine's stack is what stops it.
fn ackermann(m: u64, n: u64) -> u64 {
    match (m, n) {
        (0, n) => n + 1,
        (m, 0) => ackermann(m - 1, 1),
        (m, n) => ackermann(m - 1, ackermann(m, n - 1)),
    }
}

fn trap_on_poison(row: &judge::Row) {
    if let Some(Scalar::Int(POISON_HEIGHT)) = row.values.first() {
        panic!("a poisoned row");
    }
}

#[cfg(target_arch = "wasm32")]
const _: () = {
    use bellwether_plugin_sdk::bindings;

    bindings::about::export!(HostilePolicy with_types_in bindings::about);
    bindings::policy::export!(HostilePolicy with_types_in bindings::policy);
};
