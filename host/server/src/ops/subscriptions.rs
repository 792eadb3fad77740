//! Subscriptions: made, shown, cancelled, held and ended by people. What the clock does with them is in
//! `reconcile/subscriptions.rs`; what payments do is [`App::complete_payment`].
//!
//! Who is no admin sees and moves their own only.

mod payment;
mod step;

use std::time::Duration;

use host_domain::ids::{NodeId, SubscriptionId};
use host_domain::subscription::{Subscription, SubscriptionEvent, SubscriptionState};
use host_domain::time::{Millis, format_duration, parse_duration};
use uuid::Uuid;

use super::nodes::{Wish, known_chain, wish, with_node_type};
use super::{
    CreateNode, CreateSubscription, OpError, Page, PageRequest, Principal, Scope,
    SubscriptionDetails, SubscriptionFilter,
};
use crate::app::App;
use crate::catalogue::Catalogue;
use host_store::retried;

pub use payment::PaidSubscription;
pub(crate) use step::{Held, hold};
pub(super) use step::{end_with_node, tell_of_new};

/// Shortest and longest term that is sold where the profile has no prices.
const TERM: (Duration, Duration) = (
    Duration::from_hours(24),
    Duration::from_hours(10 * 365 * 24),
);

impl App {
    /// Makes a subscription that waits for its payment, or finds the equal one that does; `true` when it was made.
    pub async fn create_subscription(
        &self,
        who: &Principal,
        request: CreateSubscription,
    ) -> Result<(SubscriptionDetails, bool), OpError> {
        if let Some(made) = who.effect_on("subscription") {
            return Ok((self.subscription(who, made).await?, true));
        }
        let (catalogue, term) = (self.catalogue(), request.duration);
        let wanted = named_node_type(&catalogue, request.node);
        if let Some(equal) = self.equal_pending(who, &wanted, term).await? {
            return Ok((equal, false));
        }
        let chain = known_chain(&catalogue, &wanted.chain)?;
        let wish = wish(chain, wanted.clone(), Some(term))?;
        self.check_provider(&wish.placement.provider)?;
        let prices = &chain.profile.node_types[&wish.node_type].price;
        check_term(term, prices.keys().map(String::as_str))?;
        let now = self.clock.now();
        let made = Subscription {
            duration: Some(term),
            state: SubscriptionState::PendingPayment,
            ..open_ended(&wish, who, now)
        };
        let write = || async {
            let mut tx = self.db.begin().await?;
            tx.insert_subscription(&made).await?;
            tell_of_new(&mut tx, who, &made, None, now).await?;
            Ok::<(), OpError>(tx.commit().await?)
        };
        match retried(write).await {
            Ok(()) => Ok((details(made, None), true)),
            // Another one may have been faster with the same wish.
            Err(error) => match self.equal_pending(who, &wanted, term).await? {
                Some(equal) => Ok((equal, false)),
                None => Err(error),
            },
        }
    }

    async fn equal_pending(
        &self,
        who: &Principal,
        wanted: &CreateNode,
        term: Duration,
    ) -> Result<Option<SubscriptionDetails>, OpError> {
        let (chain, node_type) = (&wanted.chain, &wanted.node_type);
        let equal = self
            .db
            .equal_pending_subscription(&who.name, chain, node_type, term)
            .await?;
        Ok(equal.map(|equal| details(equal, None)))
    }

    /// Subscriptions, newest first: of everybody for an admin, their own for others.
    pub async fn list_subscriptions(
        &self,
        who: &Principal,
        filter: &SubscriptionFilter,
        page: &PageRequest,
    ) -> Result<Page<SubscriptionDetails>, OpError> {
        let mut filter = filter.clone();
        if !who.may(Scope::Admin) {
            if filter
                .owner
                .as_ref()
                .is_some_and(|owner| *owner != who.name)
            {
                return Ok(Page {
                    items: Vec::new(),
                    next: None,
                });
            }
            filter.owner = Some(who.name.clone());
        }
        let rows = self
            .db
            .list_subscriptions(&filter, page.after()?, page.rows())
            .await?;
        let page = Page::cut(rows, page, |row| row.id.to_string());
        let ids: Vec<SubscriptionId> = page.items.iter().map(|one| one.id).collect();
        let mut nodes = self.db.nodes_of_subscriptions(&ids).await?;
        let items = page.items.into_iter().map(|one| {
            let node = nodes.remove(&one.id);
            details(one, node)
        });
        Ok(Page {
            items: items.collect(),
            next: page.next,
        })
    }

    /// One subscription with its node.
    pub async fn subscription(
        &self,
        who: &Principal,
        id: SubscriptionId,
    ) -> Result<SubscriptionDetails, OpError> {
        let found = self.existing_subscription(id).await?;
        if is_theirs(who, &found.subscription) {
            return Ok(found);
        }
        Err(OpError::not_found("subscription", id))
    }

    async fn existing_subscription(
        &self,
        id: SubscriptionId,
    ) -> Result<SubscriptionDetails, OpError> {
        let found = self.db.subscription(id).await?;
        let found = found.ok_or_else(|| OpError::not_found("subscription", id))?;
        let node = self.db.node_of_subscription(id).await?;
        Ok(details(found, node.map(|node| node.id)))
    }

    /// Cancels a subscription: it runs to the end of its term. One without a term, or that was never paid, ends at once, and
    /// its node with it.
    pub async fn cancel_subscription(
        &self,
        who: &Principal,
        id: SubscriptionId,
        if_version: Option<i64>,
    ) -> Result<SubscriptionDetails, OpError> {
        self.move_by_hand(who, id, SubscriptionEvent::Canceled, if_version)
            .await
    }

    /// Holds an active subscription: until it is resumed or ended the clock does not move it. Its node runs on.
    pub async fn suspend_subscription(
        &self,
        who: &Principal,
        id: SubscriptionId,
        if_version: Option<i64>,
    ) -> Result<SubscriptionDetails, OpError> {
        self.move_by_hand(who, id, SubscriptionEvent::Suspended, if_version)
            .await
    }

    /// Lets a suspended subscription go on; it is past due when its term has ended meanwhile.
    pub async fn resume_subscription(
        &self,
        who: &Principal,
        id: SubscriptionId,
        if_version: Option<i64>,
    ) -> Result<SubscriptionDetails, OpError> {
        self.move_by_hand(who, id, SubscriptionEvent::Resumed, if_version)
            .await
    }

    /// Ends a suspended subscription, and its node with it.
    pub async fn end_subscription(
        &self,
        who: &Principal,
        id: SubscriptionId,
        if_version: Option<i64>,
    ) -> Result<SubscriptionDetails, OpError> {
        self.move_by_hand(who, id, SubscriptionEvent::Ended, if_version)
            .await
    }

    async fn move_by_hand(
        &self,
        who: &Principal,
        id: SubscriptionId,
        event: SubscriptionEvent,
        if_version: Option<i64>,
    ) -> Result<SubscriptionDetails, OpError> {
        if who.effect_on("subscription") == Some(id) {
            return self.subscription(who, id).await;
        }
        let once = || async {
            let now = self.clock.now();
            let mut tx = self.db.begin().await?;
            let held = hold(&mut tx, id).await?;
            let held = held.filter(|held| is_theirs(who, &held.subscription));
            let held = held.ok_or_else(|| OpError::not_found("subscription", id))?;
            if if_version.is_some_and(|version| version != held.subscription.version) {
                return Err(OpError::stale("subscription", id));
            }
            let node = held.node.as_ref().map(|node| node.id);
            let moved = self
                .move_subscription(&mut tx, who, held, event, now)
                .await?;
            tx.commit().await?;
            Ok((details(moved.subscription, node), moved.removal))
        };
        let (moved, removal) = retried(once).await?;
        self.follow_removal(who, removal).await?;
        Ok(moved)
    }
}

/// A subscription without a term, for the node that somebody wishes.
pub(super) fn open_ended(wish: &Wish, who: &Principal, now: Millis) -> Subscription {
    Subscription {
        id: SubscriptionId(Uuid::now_v7()),
        owner: who.name.clone(),
        chain_profile_id: wish.chain.clone(),
        node_type: wish.node_type.clone(),
        provider: wish.placement.provider.clone(),
        region: wish.placement.region.clone(),
        instance_type: wish.placement.instance_type.clone(),
        inputs: wish.inputs.clone(),
        duration: None,
        state: SubscriptionState::Active,
        payment_id: None,
        expires_at: None,
        entered_at: now,
        created_at: now,
        updated_at: now,
        version: 1,
    }
}

fn details(subscription: Subscription, node: Option<NodeId>) -> SubscriptionDetails {
    SubscriptionDetails { subscription, node }
}

fn is_theirs(who: &Principal, subscription: &Subscription) -> bool {
    who.may(Scope::Admin) || subscription.owner == who.name
}

/// The node type is a part of what makes two wishes equal, so it is named before they are compared.
fn named_node_type(catalogue: &Catalogue, request: CreateNode) -> CreateNode {
    match catalogue.chains.chains.get(&request.chain) {
        Some(chain) => with_node_type(chain, request),
        None => request,
    }
}

/// Where a profile has prices, its terms are those that have one.
fn check_term<'a>(term: Duration, priced: impl Iterator<Item = &'a str>) -> Result<(), OpError> {
    let priced: Vec<_> = priced.collect();
    if priced.is_empty() {
        let (shortest, longest) = TERM;
        if term >= shortest && term <= longest {
            return Ok(());
        }
        let (shortest, longest) = (format_duration(shortest), format_duration(longest));
        let rule = format!("must be {shortest} to {longest}, such as `30d`");
        return Err(OpError::invalid("/duration", rule));
    }
    if priced.iter().any(|one| parse_duration(one) == Ok(term)) {
        return Ok(());
    }
    let rule = format!("has no price; choose one of: {}", priced.join(", "));
    Err(OpError::invalid("/duration", rule))
}

#[cfg(test)]
mod tests;
