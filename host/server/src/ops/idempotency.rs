//! Answers that were given to writes with an idempotency key.

use std::time::Duration;

use super::{OpError, Principal};
use crate::app::App;
use crate::store::IdempotentAnswer;

/// How long a repeat gets the first answer.
const KEPT_FOR: Duration = Duration::from_hours(24);

/// An answer that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Tells requests apart.
    pub fingerprint: String,
    /// Status of the answer.
    pub status: u16,
    /// Body of the answer.
    pub body: String,
}

impl App {
    /// The answer that `who` got under a key in the last 24 hours.
    pub(crate) async fn kept_answer(
        &self,
        who: &Principal,
        key: &str,
    ) -> Result<Option<KeptAnswer>, OpError> {
        let kept = self
            .db
            .idempotent_answer(&who.name, key, self.clock.now())
            .await?;
        Ok(kept.map(|kept| KeptAnswer {
            fingerprint: kept.body_hash,
            status: kept.status,
            body: kept.response,
        }))
    }

    /// Keeps an answer for repeats; one that is there already stays.
    pub(crate) async fn keep_answer(
        &self,
        who: &Principal,
        key: &str,
        answer: KeptAnswer,
    ) -> Result<(), OpError> {
        let now = self.clock.now();
        let row = IdempotentAnswer {
            principal: who.name.clone(),
            key: key.to_owned(),
            body_hash: answer.fingerprint,
            status: answer.status,
            response: answer.body,
            expires_at: now.plus(KEPT_FOR),
        };
        let mut tx = self.db.begin().await?;
        tx.put_idempotent_answer(&row, now).await?;
        tx.commit().await?;
        Ok(())
    }
}
