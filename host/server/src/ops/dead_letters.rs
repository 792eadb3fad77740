//! Transitions that could not be handled and were put aside: seen, and put back when their cause is gone.

use host_domain::ids::EventId;
use host_domain::incident::{SubjectKind, category};
use host_domain::notification::node_labels;

use super::audit::audit;
use super::incidents::{Subject, resolve};
use super::{OpError, Page, PageRequest, Principal};
use crate::app::App;
use host_store::{DeadLetter, retried};

impl App {
    /// Events that were put aside, newest first.
    pub async fn list_dead_letters(&self, page: &PageRequest) -> Result<Page<DeadLetter>, OpError> {
        let rows = self
            .db
            .list_dead_letters(page.after()?, page.rows())
            .await?;
        Ok(Page::cut(rows, page, |letter| letter.event.id.to_string()))
    }

    /// Puts an event back to be handled, in its place among its node's. One that was put back and still waits stays as it is.
    pub async fn requeue_dead_letter(&self, who: &Principal, id: EventId) -> Result<(), OpError> {
        if who.effect_on("dead_letter") == Some(id) {
            return Ok(());
        }
        retried(|| self.put_back(who, id)).await
    }

    async fn put_back(&self, who: &Principal, id: EventId) -> Result<(), OpError> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
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
            resolve(&mut tx, &self.catalogue(), &subject, category, now).await?;
        }
        let target = format!("dead_letter/{id}");
        audit(&mut tx, who, "requeue_dead_letter", target, now).await?;
        Ok(tx.commit().await?)
    }
}
