//! Doing a thing once: the key of a request is taken in the transaction of its effect, and its answer is kept afterwards.
//!
//! A host that dies between the two leaves a key with an effect and without an answer. The repeat then runs the same use-case
//! again, which knows from [`Principal::effect`] that its work is done, and answers from what the first request left.

use std::time::Duration;

use host_domain::time::Millis;

use super::{OpError, Principal};
use crate::app::App;
use host_store::{IdempotentAnswer, Tx, UNANSWERED, retried};

/// How long a repeat gets the first answer.
const KEPT_FOR: Duration = Duration::from_hours(24);

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

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
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
        expires_at: now.plus(KEPT_FOR),
    }
}

impl App {
    /// What `who` got or did under a key in the last 24 hours, with the fingerprint of that request.
    pub(crate) async fn kept_answer(
        &self,
        who: &Principal,
        key: &str,
    ) -> Result<Option<(String, Kept)>, OpError> {
        let kept = self
            .db
            .idempotent_answer(&who.name, key, self.clock.now())
            .await?;
        Ok(kept.map(|kept| {
            let found = match kept.status {
                UNANSWERED => Kept::Effect(kept.response),
                status => Kept::Answer {
                    status,
                    body: kept.response,
                },
            };
            (kept.body_hash, found)
        }))
    }

    /// Keeps an answer for repeats; one that is there already stays.
    pub(crate) async fn keep_answer(
        &self,
        who: &Principal,
        request: &RequestKey,
        status: u16,
        body: String,
    ) -> Result<(), OpError> {
        let now = self.clock.now();
        let row = row(who, request, status, body, now);
        let write = || async {
            let mut tx = self.db.begin().await?;
            // A request that found everything done already has taken no key.
            if !tx.complete_idempotent_answer(&row).await? {
                tx.put_idempotent_answer(&row, now).await?;
            }
            Ok(tx.commit().await?)
        };
        retried(write).await
    }
}
