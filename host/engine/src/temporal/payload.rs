//! The forms in which values and failures travel through Temporal.
//!
//! Values are JSON text as it is, under the encoding that every Temporal tool shows as text. A failure carries the port's own
//! failure as a detail, so that both ends read the same, and its message for who looks at it in Temporal's own console.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use host_workflows::{ActivityError, Failure, TryFailed};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use temporalio_common::protos::temporal::api::common::v1::{Memo, Payload, Payloads};
use temporalio_common::protos::temporal::api::failure::v1::failure::FailureInfo;
use temporalio_common::protos::temporal::api::failure::v1::{
    ApplicationFailureInfo, Failure as Told,
};

/// The memo's field with the version of a workflow's code.
const VERSION: &str = "version";
/// The memo's field with what a workflow last showed.
const PROGRESS: &str = "progress";

/// What an execution begins with beside its input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    /// The version of the code that runs it to its end.
    pub(super) version: String,
    /// The number of the execution, from 1.
    pub(super) execution: u64,
    /// Messages that the execution before did not read, by mailbox.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) unread: BTreeMap<String, Vec<Box<RawValue>>>,
}

impl Envelope {
    /// That of a first execution.
    pub(super) fn first(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            execution: 1,
            unread: BTreeMap::new(),
        }
    }
}

/// JSON text as Temporal keeps it.
pub(super) fn payload(text: impl Into<Vec<u8>>) -> Payload {
    Payload {
        metadata: HashMap::from([("encoding".to_owned(), b"json/plain".to_vec())]),
        data: text.into(),
        ..Payload::default()
    }
}

/// A value as Temporal keeps it.
pub(super) fn encoded<T: Serialize>(value: &T) -> Result<Payload, serde_json::Error> {
    Ok(payload(serde_json::to_vec(value)?))
}

/// The JSON text of a payload.
pub(super) fn text(payload: Option<&Payload>) -> String {
    payload.map_or_else(
        || "null".to_owned(),
        |payload| String::from_utf8_lossy(&payload.data).into_owned(),
    )
}

/// The value of a payload.
pub(super) fn decoded<T: DeserializeOwned>(payload: &Payload) -> Option<T> {
    serde_json::from_slice(&payload.data).ok()
}

/// What is kept beside a workflow for who lists it.
pub(super) fn memo(version: &str, progress: Option<&str>) -> HashMap<String, Payload> {
    let version = serde_json::Value::from(version).to_string();
    let mut fields = HashMap::from([(VERSION.to_owned(), payload(version))]);
    if let Some(progress) = progress {
        fields.extend(shown(progress).fields);
    }
    fields
}

/// What a workflow shows, as a change of its memo.
pub(super) fn shown(progress: &str) -> Memo {
    Memo {
        fields: HashMap::from([(PROGRESS.to_owned(), payload(progress))]),
    }
}

/// The version and the progress of a memo.
pub(super) fn noted(memo: Option<&Memo>) -> (String, Option<String>) {
    let field = |name| memo.and_then(|memo| memo.fields.get(name));
    let version = field(VERSION).and_then(decoded).unwrap_or_default();
    (
        version,
        field(PROGRESS).map(|progress| text(Some(progress))),
    )
}

/// A failed try on its way to the workflow. `is_last` keeps Temporal from trying again by itself: the workflow counts tries.
pub(super) fn try_failed(failed: &TryFailed, is_last: bool) -> Told {
    let told = told(&failed.error.code, &failed.error.message, failed);
    with_retry(told, is_last)
}

/// A workflow's failure on its way to who waits for it.
pub(super) fn failure(failure: &Failure) -> Told {
    with_retry(told(&failure.code, &failure.message, failure), true)
}

fn told<T: Serialize>(code: &str, message: &str, detail: &T) -> Told {
    let details = encoded(detail).ok().map(|detail| Payloads {
        payloads: vec![detail],
    });
    Told {
        message: message.to_owned(),
        source: "bellwether".to_owned(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(
            ApplicationFailureInfo {
                r#type: code.to_owned(),
                details,
                ..ApplicationFailureInfo::default()
            },
        )),
        ..Told::default()
    }
}

fn with_retry(mut told: Told, is_last: bool) -> Told {
    if let Some(FailureInfo::ApplicationFailureInfo(info)) = &mut told.failure_info {
        info.non_retryable = is_last;
    }
    told
}

/// The failed try that a failure of Temporal's tells of.
pub(super) fn read_try(told: Option<&Told>) -> TryFailed {
    detail(told).unwrap_or_else(|| ActivityError::retryable("engine", words(told)).into())
}

/// The failure that a failure of Temporal's tells of.
pub(super) fn read_failure(told: Option<&Told>) -> Failure {
    detail(told).unwrap_or_else(|| Failure::engine(words(told)))
}

/// Our detail, wherever in the chain of causes it is.
fn detail<T: DeserializeOwned>(told: Option<&Told>) -> Option<T> {
    let mut next = told;
    while let Some(told) = next {
        if let Some(FailureInfo::ApplicationFailureInfo(info)) = &told.failure_info {
            let first = info.details.as_ref().and_then(|all| all.payloads.first());
            if let Some(found) = first.and_then(decoded) {
                return Some(found);
            }
        }
        next = told.cause.as_deref();
    }
    None
}

/// What Temporal says when the words are its own.
fn words(told: Option<&Told>) -> String {
    let mut all = Vec::new();
    let mut next = told;
    while let Some(told) = next {
        all.push(told.message.as_str());
        next = told.cause.as_deref();
    }
    all.retain(|message| !message.is_empty());
    if all.is_empty() {
        "Temporal tells no reason".to_owned()
    } else {
        all.join(": ")
    }
}

/// A span of time in whatever form Temporal's crates want it.
pub(super) fn span<T: TryFrom<Duration>>(duration: Duration) -> Option<T> {
    T::try_from(duration).ok()
}
