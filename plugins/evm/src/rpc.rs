//! JSON-RPC 2.0 over HTTP: one batch, or single calls if the node rejects batches.

use std::collections::BTreeMap;

use bellwether_plugin_sdk::{Failure, http};
use serde::Deserialize;
use serde_json::{Value, json};

/// The error code of an unsupported method.
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;

/// One call.
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) params: Value,
}

/// The answer to one call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Result(Value),
    Error { code: i64, message: String },
}

/// The answers by method.
pub(crate) type Answers = BTreeMap<&'static str, Answer>;

#[derive(Deserialize)]
struct Message {
    id: Option<usize>,
    #[serde(default)]
    result: Value,
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
struct ErrorBody {
    code: i64,
    #[serde(default)]
    message: String,
}

impl From<Message> for Answer {
    fn from(message: Message) -> Self {
        match message.error {
            Some(error) => Self::Error {
                code: error.code,
                message: error.message,
            },
            None => Self::Result(message.result),
        }
    }
}

/// Sends all calls: in one batch if the node accepts batches, or else one by one.
pub(crate) fn ask(url: &str, calls: &[Call], batch: bool) -> Result<Answers, Failure> {
    if batch {
        let requests: Vec<Value> = calls
            .iter()
            .enumerate()
            .map(|(id, call)| request(id, call))
            .collect();
        let answer = http::post(url).json(&requests)?.send()?;
        if let Some(answers) = read_batch(calls, &answer.body) {
            return Ok(answers);
        }
    }
    let mut answers = Answers::new();
    for (id, call) in calls.iter().enumerate() {
        let answer = http::post(url).json(&request(id, call))?.send()?;
        // An error may come with any status, so the body takes precedence over the status.
        let message = match serde_json::from_slice::<Message>(&answer.body) {
            Ok(message) => message,
            Err(_) => answer.ok()?.json()?,
        };
        answers.insert(call.method, message.into());
    }
    Ok(answers)
}

fn request(id: usize, call: &Call) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": call.method, "params": call.params})
}

/// The answers of a batch in any order; `None` when the body is not a batch.
pub(crate) fn read_batch(calls: &[Call], body: &[u8]) -> Option<Answers> {
    let messages: Vec<Message> = serde_json::from_slice(body).ok()?;
    let answers: Answers = messages
        .into_iter()
        .filter_map(|message| Some((calls.get(message.id?)?.method, message.into())))
        .collect();
    (!answers.is_empty()).then_some(answers)
}
