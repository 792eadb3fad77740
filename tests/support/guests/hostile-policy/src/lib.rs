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
}

#[derive(serde::Deserialize)]
struct Config {
    act: Act,
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
            config_schema: r#"{"type": "object", "required": ["act"], "properties": {"act": {"type": "string"}}}"#.into(),
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
        let mut verdicts: Vec<Verdict> = sheet
            .rows
            .iter()
            .map(|_| Verdict::ok(Sync::Synced))
            .collect();
        match config.act {
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
