//! Tests the observations made of answers of real nodes.

use super::*;
use bellwether_plugin_sdk::Scalar;

const NOW_MS: i64 = 1_700_000_010_500;

fn read(method: &'static str, body: &str) -> Answers {
    let calls = [Call {
        method,
        params: json!([]),
    }];
    rpc::read_batch(&calls, body.as_bytes()).unwrap()
}

fn answers(parts: &[(&'static str, Value)]) -> Answers {
    parts
        .iter()
        .map(|(method, value)| (*method, Answer::Result(value.clone())))
        .collect()
}

fn value<'a>(observations: &'a [Observation], name: &str) -> Option<&'a Scalar> {
    observations
        .iter()
        .find(|observation| observation.name == name)
        .map(|observation| &observation.value)
}

#[test]
fn a_full_node_gives_everything() {
    let all = answers(&[
        ("eth_blockNumber", json!("0x1f")),
        (
            "eth_getBlockByNumber",
            json!({"number": "0x1f", "timestamp": "0x6553f100"}),
        ),
        ("eth_syncing", json!({"currentBlock": "0x1"})),
        ("net_peerCount", json!("0x8")),
        ("web3_clientVersion", json!("Geth/v1")),
        ("eth_chainId", json!("0x7a69")),
    ]);
    let seen = observations(&all, Some(31337), NOW_MS).unwrap();
    assert!(matches!(value(&seen, "node.height"), Some(Scalar::Int(31))));
    assert!(
        matches!(value(&seen, "node.block_age_s"), Some(Scalar::Real(age)) if (age - 10.5).abs() < 1e-6)
    );
    assert!(matches!(
        value(&seen, "node.syncing"),
        Some(Scalar::Flag(true))
    ));
    assert!(matches!(value(&seen, "node.peers"), Some(Scalar::Int(8))));
    assert!(
        matches!(value(&seen, "node.version"), Some(Scalar::Text(version)) if version == "Geth/v1")
    );
    assert_eq!(seen.len(), Evm::EMITS.len());
}

#[test]
fn what_a_node_does_not_have_is_left_out() {
    let mut few = answers(&[
        ("eth_blockNumber", json!("0x0")),
        ("eth_syncing", json!(false)),
    ]);
    few.insert(
        "net_peerCount",
        Answer::Error {
            code: rpc::METHOD_NOT_FOUND,
            message: "Method not found".into(),
        },
    );
    let seen = observations(&few, None, NOW_MS).unwrap();
    assert!(value(&seen, "node.peers").is_none());
    assert!(matches!(
        value(&seen, "node.syncing"),
        Some(Scalar::Flag(false))
    ));
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_wrong_chain_and_a_missing_height_are_failures() {
    let all = answers(&[
        ("eth_blockNumber", json!("0x1")),
        ("eth_chainId", json!("0x1")),
    ]);
    let failure = observations(&all, Some(31337), NOW_MS).unwrap_err();
    assert!(
        matches!(failure, Failure::Upstream(text) if text.contains("chain 1") && text.contains("31337"))
    );
    let failure =
        observations(&answers(&[("eth_blockNumber", json!(17))]), None, NOW_MS).unwrap_err();
    assert!(
        matches!(failure, Failure::Upstream(text) if text.contains("eth_blockNumber answered 17"))
    );
    let failure = observations(&Answers::new(), None, NOW_MS).unwrap_err();
    assert!(
        matches!(failure, Failure::Upstream(text) if text == "the node did not answer eth_blockNumber")
    );
}

#[test]
fn batches_are_matched_by_id_and_errors_kept() {
    let calls = [
        Call {
            method: "a",
            params: json!([]),
        },
        Call {
            method: "b",
            params: json!([]),
        },
    ];
    let body = br#"[{"id":1,"error":{"code":-32601,"message":"no"}},{"id":0,"result":"0x1"},{"id":9,"result":1}]"#;
    let answers = rpc::read_batch(&calls, body).unwrap();
    assert_eq!(answers["a"], Answer::Result(json!("0x1")));
    assert_eq!(
        answers["b"],
        Answer::Error {
            code: -32601,
            message: "no".into()
        }
    );
    assert_eq!(answers.len(), 2);
    assert_eq!(
        read("a", r#"[{"id":0,"result":null}]"#)["a"],
        Answer::Result(Value::Null)
    );
}

#[test]
fn an_answer_that_is_no_batch_asks_for_single_calls() {
    for body in [
        "",
        "<html>",
        r#"{"error":{"code":-32600,"message":"no batches"}}"#,
        "[]",
        r#"[{"id":null}]"#,
    ] {
        let calls = [Call {
            method: "a",
            params: json!([]),
        }];
        assert!(rpc::read_batch(&calls, body.as_bytes()).is_none(), "{body}");
    }
}
