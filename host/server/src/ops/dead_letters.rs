//! Dead letters: transitions that the outbox could not handle, listed and requeued.

use host_domain::ids::EventId;
use host_domain::incident::{SubjectKind, category};
use host_domain::notification::node_labels;

use super::audit::audit;
use super::incident_subject::Subject;
use super::incidents::resolve;
use super::records::Records;
use super::{OpError, Page, PageRequest, Principal};
use crate::catalogue::Chains;
use host_store::retried;

pub use host_store::DeadLetter;

/// Use cases on dead letters.
#[derive(Clone)]
pub struct DeadLetters {
    records: Records,
    chains: Chains,
}

impl DeadLetters {
    pub(crate) fn new(records: Records, chains: Chains) -> Self {
        Self { records, chains }
    }

    /// Dead letters, newest first.
    pub async fn list(&self, page: &PageRequest) -> Result<Page<DeadLetter>, OpError> {
        let rows = self
            .records
            .db
            .list_dead_letters(page.after()?, page.rows())
            .await?;
        Ok(Page::cut(rows, page, |letter| letter.event.id.to_string()))
    }

    /// Requeues an event, in its order among the events of its node. Requeueing a waiting event again changes nothing.
    pub async fn requeue(&self, who: &Principal, id: EventId) -> Result<(), OpError> {
        if who.effect_on("dead_letter") == Some(id) {
            return Ok(());
        }
        retried(|| self.put_back(who, id)).await
    }

    async fn put_back(&self, who: &Principal, id: EventId) -> Result<(), OpError> {
        let now = self.records.now();
        let mut tx = self.records.db.begin().await?;
        let Some(letter) = tx.requeue_dead_letter(id, now).await? else {
            if tx.is_in_outbox(id).await? {
                return Ok(tx.rollback().await?);
            }
            return Err(OpError::not_found("dead letter", id));
        };
        let event = &letter.event;
        if tx.n_dead_letters_of(event.node_id).await? == 0 {
            let subject = Subject {
                kind: SubjectKind::Node,
                id: event.node_id.to_string(),
                name: event.node_name.clone(),
                labels: node_labels(&event.chain_profile_id, &event.node_type),
            };
            let category = category::EVENT_DEAD_LETTER;
            resolve(&mut tx, &self.chains.catalogue(), &subject, category, now).await?;
        }
        let target = format!("dead_letter/{id}");
        audit(&mut tx, who, "requeue_dead_letter", target, now).await?;
        Ok(tx.commit().await?)
    }
}
