//! Measures an EVM node over JSON-RPC: height, age of the newest block, peers, sync, version.
//!
//! Nodes implement different methods: only the height is required, and other missing values are omitted. A node that
//! does not answer causes a failure and no observation; the policy judges the age of the height.

#![forbid(unsafe_code)]

mod rpc;

use bellwether_plugin_sdk::{
    Capability, Collector, Emits, Failure, Node, Observation, clock, log, register,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use rpc::{Answer, Answers, Call};

/// The settings: which node to query, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// The address of the node's JSON-RPC: `node:` and the name of one of its ports, or a granted absolute URL.
    url: String,
    /// The expected chain id; not checked when absent.
    chain_id: Option<u64>,
    /// Whether to send all calls in one batch; if the node rejects batches, the collector sends them one by one.
    batch: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "node:rpc".into(),
            chain_id: None,
            batch: true,
        }
    }
}

/// The needed fields of a block's header.
#[derive(Deserialize)]
struct Block {
    timestamp: String,
}

struct Evm;

impl Collector for Evm {
    type Config = Config;
    const WANTS: &[Capability] = &[Capability::Http];
    const EMITS: &[Emits] = &[
        Emits::counter("node.height", "blocks", "Number of the newest block."),
        Emits::gauge(
            "node.block_age_s",
            "s",
            "Age of the newest block, by its timestamp.",
        ),
        Emits::gauge(
            "node.peers",
            "peers",
            "Connected peers; absent when the node does not support the call.",
        ),
        Emits::state(
            "node.syncing",
            "Whether the node reports that it is syncing.",
        ),
        Emits::state("node.version", "The node's client version."),
    ];

    fn collect(_node: &Node, config: &Config) -> Result<Vec<Observation>, Failure> {
        let mut calls = vec![
            Call {
                method: "eth_blockNumber",
                params: json!([]),
            },
            Call {
                method: "eth_getBlockByNumber",
                params: json!(["latest", false]),
            },
            Call {
                method: "eth_syncing",
                params: json!([]),
            },
            Call {
                method: "net_peerCount",
                params: json!([]),
            },
            Call {
                method: "web3_clientVersion",
                params: json!([]),
            },
        ];
        if config.chain_id.is_some() {
            calls.push(Call {
                method: "eth_chainId",
                params: json!([]),
            });
        }
        let answers = rpc::ask(&config.url, &calls, config.batch)?;
        observations(&answers, config.chain_id, clock::now_ms())
    }
}

/// Converts answers to observations. Pure, so that tests need no node.
fn observations(
    answers: &Answers,
    chain_id: Option<u64>,
    now_ms: i64,
) -> Result<Vec<Observation>, Failure> {
    if let Some(expected) = chain_id {
        let actual = quantity("eth_chainId", &demanded(answers, "eth_chainId")?)?;
        if actual != expected {
            return Err(Failure::upstream(format!(
                "the node is on chain {actual}, the configuration expects {expected}"
            )));
        }
    }
    let height = quantity("eth_blockNumber", &demanded(answers, "eth_blockNumber")?)?;
    let mut observations = vec![Observation::new("node.height", height)];
    let block = known(answers, "eth_getBlockByNumber")
        .and_then(|block| serde_json::from_value::<Block>(block).ok());
    if let Some(at_s) = block.and_then(|block| hex(&block.timestamp)) {
        observations.push(Observation::new("node.block_age_s", age_s(now_ms, at_s)));
    }
    if let Some(syncing) = known(answers, "eth_syncing") {
        // `false`, or an object with the progress.
        observations.push(Observation::new(
            "node.syncing",
            syncing != Value::Bool(false),
        ));
    }
    if let Some(peers) = known(answers, "net_peerCount")
        .as_ref()
        .and_then(Value::as_str)
        .and_then(hex)
    {
        observations.push(Observation::new("node.peers", peers));
    }
    if let Some(version) = known(answers, "web3_clientVersion")
        .as_ref()
        .and_then(Value::as_str)
    {
        observations.push(Observation::new("node.version", version));
    }
    Ok(observations)
}

/// The answer to a required call.
fn demanded(answers: &Answers, method: &str) -> Result<Value, Failure> {
    match answers.get(method) {
        Some(Answer::Result(value)) => Ok(value.clone()),
        Some(Answer::Error { code, message }) => Err(Failure::upstream(format!(
            "{method} failed with error {code}: {message}"
        ))),
        None => Err(Failure::upstream(format!(
            "the node did not answer {method}"
        ))),
    }
}

/// The answer to an optional call.
fn known(answers: &Answers, method: &str) -> Option<Value> {
    match answers.get(method)? {
        Answer::Result(value) => Some(value.clone()),
        Answer::Error {
            code: rpc::METHOD_NOT_FOUND,
            ..
        } => None,
        Answer::Error { code, message } => {
            log::debug(format!("{method} failed with error {code}: {message}"));
            None
        }
    }
}

/// Parses a number in the form of JSON-RPC, `0x1f`.
fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn quantity(method: &str, value: &Value) -> Result<u64, Failure> {
    let number = value.as_str().and_then(hex);
    number.ok_or_else(|| {
        Failure::upstream(format!(
            "{method} answered {value}, expected a number such as \"0x1f\""
        ))
    })
}

/// Seconds from a block's timestamp to now; a block from the future has no age.
#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 stay far below 2^53"
)]
fn age_s(now_ms: i64, block_s: u64) -> f64 {
    (now_ms as f64 / 1000.0 - block_s as f64).max(0.0)
}

register!(collector: Evm);

#[cfg(test)]
mod tests;
