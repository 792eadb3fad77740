//! Subscriptions of a term of thirty days, unpaid and paid.

use std::collections::BTreeMap;
use std::time::Duration;

use host_domain::ids::SubscriptionId;
use host_domain::node::{Node, NodeEvent};
use host_domain::operation::{Operation, OperationState};
use host_domain::subscription::{Subscription, SubscriptionState};
use host_domain::time::Clock as _;
use host_store::AuditFilter;
use uuid::Uuid;

use super::Bed;
use crate::ops::{Change, PaidSubscription, Principal, Scope, change_node};

/// Thirty days.
pub(crate) const TERM: Duration = Duration::from_hours(30 * 24);
/// Of a day.
pub(crate) const DAY_S: i64 = 86_400;

/// An admin without a key of a request.
pub(crate) fn admin() -> Principal {
    Principal {
        name: "admin".to_owned(),
        scopes: [Scope::Admin].into(),
        request: None,
        request_id: None,
    }
}

impl Bed {
    /// One that waits for its payment.
    pub(crate) async fn unpaid(&self) -> Subscription {
        let now = self.clock.now();
        let made = Subscription {
            id: SubscriptionId(Uuid::now_v7()),
            owner: Uuid::now_v7().to_string(),
            chain_profile_id: "toy".to_owned(),
            node_type: "full".to_owned(),
            provider: "local".to_owned(),
            region: "here".to_owned(),
            instance_type: "x".to_owned(),
            inputs: BTreeMap::new(),
            duration: Some(TERM),
            state: SubscriptionState::PendingPayment,
            payment_id: None,
            expires_at: None,
            entered_at: now,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        let mut tx = self.records.db.begin().await.unwrap();
        tx.insert_subscription(&made).await.unwrap();
        tx.commit().await.unwrap();
        made
    }

    /// One that was paid, and whose node is made and runs.
    pub(crate) async fn paid(&self) -> (SubscriptionId, Node) {
        let id = self.unpaid().await.id;
        let PaidSubscription { making, .. } = self.pay(id, &id.to_string()).await;
        let making = making.unwrap();
        let node = self.records.db.node(making.node_id).await.unwrap().unwrap();
        let over = Operation {
            state: OperationState::Succeeded,
            ..making
        };
        let mut tx = self.records.db.begin().await.unwrap();
        tx.update_operation(&over).await.unwrap().unwrap();
        let change = Change::event(NodeEvent::Installed);
        let node = change_node(&mut tx, &node, change, self.clock.now()).await;
        tx.commit().await.unwrap();
        (id, node.unwrap())
    }

    /// As the host itself: what takes payments acts for nobody.
    pub(crate) async fn pay(&self, id: SubscriptionId, payment: &str) -> PaidSubscription {
        let host = Principal::host();
        let paid = self
            .ops
            .subscriptions
            .complete_payment(&host, id, payment)
            .await;
        paid.unwrap()
    }

    pub(crate) async fn read(&self, id: SubscriptionId) -> Subscription {
        let found = self.records.db.subscription(id).await.unwrap();
        found.unwrap()
    }

    /// What was done, oldest first, from the audit log.
    pub(crate) async fn acts(&self) -> Vec<(String, String)> {
        let rows = self
            .records
            .db
            .list_audit(&AuditFilter::default(), None, 100)
            .await
            .unwrap();
        let acts = rows.into_iter().rev().map(|row| (row.actor, row.action));
        acts.collect()
    }
}
