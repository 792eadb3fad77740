//! Converts values and failures to Temporal's payloads and back.
//!
//! Values are unchanged JSON text, in the encoding that every Temporal tool shows as text. A failure carries the
//! port's own failure as a detail, so that both ends read the same value, and its message for people who use
//! Temporal's console.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use host_workflows::{ActivityError, Failure, TryFailed};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use temporalio_common::protos::temporal::api::common::v1::{Memo, Payload, Payloads};
use temporalio_common::protos::temporal::api::failure::v1::failure::FailureInfo;
use temporalio_common::protos::temporal::api::failure::v1::{
    ApplicationFailureInfo, Failure as TemporalFailure,
};

/// The memo's field with the version of a workflow's code.
const VERSION: &str = "version";
/// The memo's field with the last progress of a workflow.
const PROGRESS: &str = "progress";

/// The start data of an execution beside its input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    /// The version of the code that runs the execution.
    pub(super) version: String,
    /// The number of the execution, from 1.
    pub(super) execution: u64,
    /// Messages that the previous execution did not read, by mailbox.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) unread: BTreeMap<String, Vec<Box<RawValue>>>,
}

impl Envelope {
    /// The envelope of a first execution.
    pub(super) fn first(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            execution: 1,
            unread: BTreeMap::new(),
        }
    }
}

/// JSON text as a payload.
pub(super) fn payload(text: impl Into<Vec<u8>>) -> Payload {
    Payload {
        metadata: HashMap::from([("encoding".to_owned(), b"json/plain".to_vec())]),
        data: text.into(),
        ..Payload::default()
    }
}

/// A value as a payload.
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

/// The memo that lists of workflows show.
pub(super) fn memo(version: &str, progress: Option<&str>) -> HashMap<String, Payload> {
    let version = serde_json::Value::from(version).to_string();
    let mut fields = HashMap::from([(VERSION.to_owned(), payload(version))]);
    if let Some(progress) = progress {
        fields.extend(shown(progress).fields);
    }
    fields
}

/// A workflow's progress as a change of its memo.
pub(super) fn shown(progress: &str) -> Memo {
    Memo {
        fields: HashMap::from([(PROGRESS.to_owned(), payload(progress))]),
    }
}

/// The version and the progress in a memo.
pub(super) fn noted(memo: Option<&Memo>) -> (String, Option<String>) {
    let field = |name| memo.and_then(|memo| memo.fields.get(name));
    let version = field(VERSION).and_then(decoded).unwrap_or_default();
    (
        version,
        field(PROGRESS).map(|progress| text(Some(progress))),
    )
}

/// A failed attempt for the workflow. `is_last` prevents Temporal from retrying, because the workflow counts
/// attempts.
pub(super) fn try_failed(failed: &TryFailed, is_last: bool) -> TemporalFailure {
    let built = application_failure(&failed.error.code, &failed.error.message, failed);
    with_retry(built, is_last)
}

/// A workflow's failure for its caller.
pub(super) fn failure(failure: &Failure) -> TemporalFailure {
    with_retry(
        application_failure(&failure.code, &failure.message, failure),
        true,
    )
}

fn application_failure<T: Serialize>(code: &str, message: &str, detail: &T) -> TemporalFailure {
    let details = encoded(detail).ok().map(|detail| Payloads {
        payloads: vec![detail],
    });
    TemporalFailure {
        message: message.to_owned(),
        source: "bellwether".to_owned(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(
            ApplicationFailureInfo {
                r#type: code.to_owned(),
                details,
                ..ApplicationFailureInfo::default()
            },
        )),
        ..TemporalFailure::default()
    }
}

fn with_retry(mut failure: TemporalFailure, is_last: bool) -> TemporalFailure {
    if let Some(FailureInfo::ApplicationFailureInfo(info)) = &mut failure.failure_info {
        info.non_retryable = is_last;
    }
    failure
}

/// The failed attempt in a failure of Temporal.
pub(super) fn read_try(failure: Option<&TemporalFailure>) -> TryFailed {
    detail(failure).unwrap_or_else(|| ActivityError::retryable("engine", words(failure)).into())
}

/// The workflow failure in a failure of Temporal.
pub(super) fn read_failure(failure: Option<&TemporalFailure>) -> Failure {
    detail(failure).unwrap_or_else(|| Failure::engine(words(failure)))
}

/// Our detail, anywhere in the chain of causes.
fn detail<T: DeserializeOwned>(failure: Option<&TemporalFailure>) -> Option<T> {
    let mut next = failure;
    while let Some(cause) = next {
        if let Some(FailureInfo::ApplicationFailureInfo(info)) = &cause.failure_info {
            let first = info.details.as_ref().and_then(|all| all.payloads.first());
            if let Some(found) = first.and_then(decoded) {
                return Some(found);
            }
        }
        next = cause.cause.as_deref();
    }
    None
}

/// Temporal's own message.
fn words(failure: Option<&TemporalFailure>) -> String {
    let mut all = Vec::new();
    let mut next = failure;
    while let Some(cause) = next {
        all.push(cause.message.as_str());
        next = cause.cause.as_deref();
    }
    all.retain(|message| !message.is_empty());
    if all.is_empty() {
        "Temporal gives no reason".to_owned()
    } else {
        all.join(": ")
    }
}

/// A duration in the type that the caller needs.
pub(super) fn span<T: TryFrom<Duration>>(duration: Duration) -> Option<T> {
    T::try_from(duration).ok()
}
