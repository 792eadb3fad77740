//! Idempotency keys: the transaction of a request's effect claims the key, and the answer is stored afterwards.
//!
//! A host that dies between the two leaves a key with an effect and without an answer. The repeat then runs the same use case
//! again, which knows from [`Principal::effect`] that its work is done, and answers from what the first request left.

use std::time::Duration;

use host_domain::time::Millis;

use super::records::Records;
use super::{OpError, Principal};
use host_store::{IdempotentAnswer, Tx, UNANSWERED, retried};

/// How long a repeat gets the first answer.
const RETENTION: Duration = Duration::from_hours(24);

/// The key of a request that is to be done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Chosen by the client.
    pub key: String,
    /// Tells requests apart.
    pub fingerprint: String,
    /// What an earlier request under the key has done already, such as `node/<id>`.
    pub effect: Option<String>,
}

/// What the host knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredAnswer {
    /// The answer.
    Answer {
        /// Status of the answer.
        status: u16,
        /// Body of the answer.
        body: String,
    },
    /// It was done, and its answer was lost.
    Effect(String),
}

impl Principal {
    /// What an earlier request under the same key has done; its answer was lost.
    pub(crate) fn effect(&self) -> Option<&str> {
        self.request.as_ref()?.effect.as_deref()
    }

    /// The id of a thing that an earlier request under the same key has made or moved.
    pub(crate) fn effect_on<T: std::str::FromStr>(&self, noun: &str) -> Option<T> {
        let (kind, id) = self.effect()?.split_once('/')?;
        (kind == noun).then(|| id.parse().ok()).flatten()
    }
}

/// Takes the key of a request for its effect; another request that was faster under the key undoes this one.
pub(super) async fn claim(
    tx: &mut Tx,
    who: &Principal,
    effect: &str,
    now: Millis,
) -> Result<(), OpError> {
    let Some(request) = who.request.as_ref().filter(|one| one.effect.is_none()) else {
        return Ok(());
    };
    let row = row(who, request, UNANSWERED, effect.to_owned(), now);
    if tx.put_idempotent_answer(&row, now).await? {
        return Ok(());
    }
    Err(OpError::Conflict(
        "another request with the same Idempotency-Key was faster; repeat this one to get its answer"
            .to_owned(),
    ))
}

fn row(
    who: &Principal,
    request: &RequestKey,
    status: u16,
    response: String,
    now: Millis,
) -> IdempotentAnswer {
    IdempotentAnswer {
        principal: who.name.clone(),
        key: request.key.clone(),
        body_hash: request.fingerprint.clone(),
        status,
        response,
        expires_at: now.plus(RETENTION),
    }
}

/// The stored answers to requests with an idempotency key.
#[derive(Clone)]
pub struct StoredAnswers {
    records: Records,
}

impl StoredAnswers {
    pub(crate) fn new(records: Records) -> Self {
        Self { records }
    }

    /// What `who` got or did under a key in the last 24 hours, with the fingerprint of that request.
    pub(crate) async fn get(
        &self,
        who: &Principal,
        key: &str,
    ) -> Result<Option<(String, StoredAnswer)>, OpError> {
        let kept = self
            .records
            .db
            .idempotent_answer(&who.name, key, self.records.now())
            .await?;
        Ok(kept.map(|kept| {
            let found = match kept.status {
                UNANSWERED => StoredAnswer::Effect(kept.response),
                status => StoredAnswer::Answer {
                    status,
                    body: kept.response,
                },
            };
            (kept.body_hash, found)
        }))
    }

    /// Keeps an answer for repeats; one that is there already stays.
    pub(crate) async fn store(
        &self,
        who: &Principal,
        request: &RequestKey,
        status: u16,
        body: String,
    ) -> Result<(), OpError> {
        let now = self.records.now();
        let row = row(who, request, status, body, now);
        let write = || async {
            let mut tx = self.records.db.begin().await?;
            // A request that found everything done already has taken no key.
            if !tx.complete_idempotent_answer(&row).await? {
                tx.put_idempotent_answer(&row, now).await?;
            }
            Ok(tx.commit().await?)
        };
        retried(write).await
    }
}
