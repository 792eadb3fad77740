//! What a payment does to a subscription: the seam between payment providers and subscriptions.
//!
//! Whoever has a complete payment calls [`Subscriptions::complete_payment`], as often as it likes: the payment's id counts once,
//! and the term, the node and the operation that makes it are written in the transaction that records the payment.

use host_domain::ids::SubscriptionId;
use host_domain::node::{Node, Placement};
use host_domain::operation::Operation;
use host_domain::subscription::{
    Subscription, SubscriptionEffect, SubscriptionEvent, SubscriptionState,
};
use host_domain::time::Millis;

use super::step::step;
use super::{LockedSubscription, SubscriptionDetails, Subscriptions, lock};
use crate::ops::audit::audit;
use crate::ops::node_making::{NewNode, begin_node, insert_begun, making_of};
use crate::ops::{OpError, Principal};
use host_store::{SubscriptionPayment, retried};

/// Longest name of a payment.
const PAYMENT_ID_CHARS_MAX: usize = 128;

/// A subscription that was paid.
#[derive(Clone, Debug, PartialEq)]
pub struct PaidSubscription {
    /// As it is now.
    pub paid: SubscriptionDetails,
    /// The operation that provisions its node.
    pub making: Option<Operation>,
}

impl Subscriptions {
    /// Records a payment that is complete: the first one of a subscription makes its node, a further one prolongs its term,
    /// and one that was recorded before changes nothing.
    pub async fn complete_payment(
        &self,
        who: &Principal,
        id: SubscriptionId,
        payment_id: &str,
    ) -> Result<PaidSubscription, OpError> {
        check_payment_id(payment_id)?;
        retried(|| self.complete_payment_once(who, id, payment_id)).await?;
        let paid = self.existing(id).await?;
        let making = match paid.node {
            Some(node) => making_of(&self.records.db, node).await?,
            None => None,
        };
        if let Some(operation) = making.as_ref().filter(|making| !making.state.is_over()) {
            // The row is committed: the loop over open operations repeats a start that is lost here.
            self.engine.begin(operation).await;
        }
        Ok(PaidSubscription { paid, making })
    }

    async fn complete_payment_once(
        &self,
        who: &Principal,
        id: SubscriptionId,
        payment_id: &str,
    ) -> Result<(), OpError> {
        let now = self.records.now();
        let mut tx = self.records.db.begin().await?;
        let locked = lock(&mut tx, id).await?;
        let locked = locked.ok_or_else(|| OpError::not_found("subscription", id))?;
        match tx.subscription_payment(payment_id).await? {
            Some(known) if known.subscription_id == id => return Ok(()),
            Some(known) => {
                return Err(OpError::Conflict(format!(
                    "payment `{payment_id}` was recorded for subscription {}; a payment buys one thing",
                    known.subscription_id
                )));
            }
            None => {}
        }
        check_payable(&locked)?;
        let unpaid = Subscription {
            payment_id: Some(payment_id.to_owned()),
            ..locked.subscription
        };
        let (node, operation) = self.node_of(&unpaid, now);
        let node_id = locked.node.map_or(node.id, |node| node.id);
        let event = SubscriptionEvent::PaymentCompleted;
        let (paid, effect) = step(&mut tx, who, unpaid, event, Some(node_id), now).await?;
        let payment = SubscriptionPayment {
            payment_id: payment_id.to_owned(),
            subscription_id: id,
            paid_until: paid.expires_at.unwrap_or(now),
            recorded_at: now,
        };
        tx.insert_subscription_payment(&payment).await?;
        if effect == Some(SubscriptionEffect::Provision) {
            insert_begun(&mut tx, &node, &operation, now).await?;
            let target = format!("node/{}", node.id);
            audit(&mut tx, &who.keyless(), "create_node", target, now).await?;
        }
        Ok(tx.commit().await?)
    }

    /// The node that a subscription pays for, and the operation that would make it. It was checked when the subscription was
    /// made; what the chain lacks by now its workflow says.
    fn node_of(&self, subscription: &Subscription, now: Millis) -> (Node, Operation) {
        let new = NewNode {
            chain: subscription.chain_profile_id.clone(),
            node_type: subscription.node_type.clone(),
            name: None,
            placement: Placement {
                provider: subscription.provider.clone(),
                instance_type: subscription.instance_type.clone(),
                region: subscription.region.clone(),
                machine_id: None,
                machine_ip: None,
            },
            inputs: subscription.inputs.clone(),
        };
        let catalogue = self.chains.catalogue();
        let chain = catalogue.chains.chains.get(&new.chain);
        begin_node(new, chain, subscription.id, now)
    }
}

fn check_payment_id(payment_id: &str) -> Result<(), OpError> {
    let is_fine = !payment_id.is_empty()
        && payment_id.len() <= PAYMENT_ID_CHARS_MAX
        && payment_id.chars().all(|c| c.is_ascii_graphic());
    if is_fine {
        return Ok(());
    }
    let rule =
        format!("must have 1 to {PAYMENT_ID_CHARS_MAX} printable ASCII characters without blanks");
    Err(OpError::invalid("/payment_id", rule))
}

/// Rejects a payment that buys nothing, and says what to do with it.
fn check_payable(locked: &LockedSubscription) -> Result<(), OpError> {
    let LockedSubscription { subscription, node } = locked;
    let state = subscription.state;
    let refused = |why: String| Err(OpError::Conflict(why));
    if subscription.is_open_ended() {
        return refused("the subscription has no term: there is nothing to pay".to_owned());
    }
    match state {
        SubscriptionState::Suspended => refused(
            "the subscription is suspended; resume it, and record the payment then".to_owned(),
        ),
        SubscriptionState::Canceled | SubscriptionState::Expired => refused(format!(
            "the subscription is `{state}`; make a new one and record the payment there, or pay it back"
        )),
        SubscriptionState::PendingPayment
        | SubscriptionState::Active
        | SubscriptionState::PastDue => match node.as_ref().map(|node| node.condition.state) {
            Some(gone) if gone.is_gone() => refused(format!(
                "the subscription's node is `{gone}`; make a new subscription and record the payment there, or pay it back"
            )),
            Some(_) | None => Ok(()),
        },
    }
}
