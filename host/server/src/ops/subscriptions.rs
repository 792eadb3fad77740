//! Subscriptions: created, listed, cancelled, suspended and ended by people. `reconcile/subscriptions.rs` applies their deadlines;
//! [`Subscriptions::complete_payment`] applies payments.
//!
//! A caller who is no admin sees and changes their own subscriptions only.

mod payment;
mod step;

use std::sync::Arc;
use std::time::Duration;

use host_domain::ids::{NodeId, SubscriptionId};
use host_domain::subscription::{
    Subscription, SubscriptionConfig, SubscriptionEvent, SubscriptionState,
};
use host_domain::time::{Millis, format_duration, parse_duration};
use uuid::Uuid;

use super::machines::Machines;
use super::node_making::{CreateNode, NewNode, complete_request, known_chain, with_node_type};
use super::records::Records;
use super::workflow_engine::WorkflowEngine;
use super::{OpError, Page, PageRequest, Principal, Scope};
use crate::catalogue::{Catalogue, Chains};
use host_store::retried;

pub use host_store::SubscriptionFilter;

pub use payment::PaidSubscription;
pub(crate) use step::{LockedSubscription, lock, move_subscription};
pub(super) use step::{end_with_node, record_new};

/// Shortest and longest term that is sold where the profile has no prices.
const TERM: (Duration, Duration) = (
    Duration::from_hours(24),
    Duration::from_hours(10 * 365 * 24),
);

/// A request for a new subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateSubscription {
    /// The node that it is for; it gets a name when it is made.
    pub node: CreateNode,
    /// What one payment buys.
    pub duration: Duration,
}

/// A subscription with its node.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionDetails {
    /// The subscription.
    pub subscription: Subscription,
    /// Its node, once it is paid.
    pub node: Option<NodeId>,
}

/// Use cases on subscriptions.
#[derive(Clone)]
pub struct Subscriptions {
    records: Records,
    chains: Chains,
    machines: Machines,
    engine: WorkflowEngine,
    config: Arc<SubscriptionConfig>,
}

impl Subscriptions {
    pub(crate) fn new(
        records: Records,
        chains: Chains,
        machines: Machines,
        engine: WorkflowEngine,
        config: SubscriptionConfig,
    ) -> Self {
        Self {
            records,
            chains,
            machines,
            engine,
            config: Arc::new(config),
        }
    }

    /// Creates a subscription that waits for its payment, or finds an equal one that waits; `true` if it was created.
    pub async fn create(
        &self,
        who: &Principal,
        request: CreateSubscription,
    ) -> Result<(SubscriptionDetails, bool), OpError> {
        if let Some(made) = who.effect_on("subscription") {
            return Ok((self.get(who, made).await?, true));
        }
        let (catalogue, term) = (self.chains.catalogue(), request.duration);
        let request_node = named_node_type(&catalogue, request.node);
        if let Some(equal) = self.equal_pending(who, &request_node, term).await? {
            return Ok((equal, false));
        }
        let chain = known_chain(&catalogue, &request_node.chain)?;
        let new = complete_request(chain, request_node.clone(), Some(term))?;
        self.machines.check(&new.placement.provider)?;
        let prices = &chain.profile.node_types[&new.node_type].price;
        check_term(term, prices.keys().map(String::as_str))?;
        let now = self.records.now();
        let made = Subscription {
            duration: Some(term),
            state: SubscriptionState::PendingPayment,
            ..open_ended(&new, who, now)
        };
        let write = || async {
            let mut tx = self.records.db.begin().await?;
            tx.insert_subscription(&made).await?;
            record_new(&mut tx, who, &made, None, now).await?;
            Ok::<(), OpError>(tx.commit().await?)
        };
        match retried(write).await {
            Ok(()) => Ok((details(made, None), true)),
            // Another one may have been faster with the same new.
            Err(error) => match self.equal_pending(who, &request_node, term).await? {
                Some(equal) => Ok((equal, false)),
                None => Err(error),
            },
        }
    }

    async fn equal_pending(
        &self,
        who: &Principal,
        request: &CreateNode,
        term: Duration,
    ) -> Result<Option<SubscriptionDetails>, OpError> {
        let (chain, node_type) = (&request.chain, &request.node_type);
        let equal = self
            .records
            .db
            .equal_pending_subscription(&who.name, chain, node_type, term)
            .await?;
        Ok(equal.map(|equal| details(equal, None)))
    }

    /// Subscriptions, newest first: of everybody for an admin, their own for others.
    pub async fn list(
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
            .records
            .db
            .list_subscriptions(&filter, page.after()?, page.rows())
            .await?;
        let page = Page::cut(rows, page, |row| row.id.to_string());
        let ids: Vec<SubscriptionId> = page.items.iter().map(|one| one.id).collect();
        let mut nodes = self.records.db.nodes_of_subscriptions(&ids).await?;
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
    pub async fn get(
        &self,
        who: &Principal,
        id: SubscriptionId,
    ) -> Result<SubscriptionDetails, OpError> {
        let found = self.existing(id).await?;
        if is_theirs(who, &found.subscription) {
            return Ok(found);
        }
        Err(OpError::not_found("subscription", id))
    }

    async fn existing(&self, id: SubscriptionId) -> Result<SubscriptionDetails, OpError> {
        let found = self.records.db.subscription(id).await?;
        let found = found.ok_or_else(|| OpError::not_found("subscription", id))?;
        let node = self.records.db.node_of_subscription(id).await?;
        Ok(details(found, node.map(|node| node.id)))
    }

    /// Cancels a subscription: it runs to the end of its term. One without a term, or that was never paid, ends at once, and
    /// its node with it.
    pub async fn cancel(
        &self,
        who: &Principal,
        id: SubscriptionId,
        if_version: Option<i64>,
    ) -> Result<SubscriptionDetails, OpError> {
        self.move_by_hand(who, id, SubscriptionEvent::Canceled, if_version)
            .await
    }

    /// Suspends an active subscription: no deadline applies until it is resumed or ended. Its node keeps running.
    pub async fn suspend(
        &self,
        who: &Principal,
        id: SubscriptionId,
        if_version: Option<i64>,
    ) -> Result<SubscriptionDetails, OpError> {
        self.move_by_hand(who, id, SubscriptionEvent::Suspended, if_version)
            .await
    }

    /// Resumes a suspended subscription; it is past due if its term has ended meanwhile.
    pub async fn resume(
        &self,
        who: &Principal,
        id: SubscriptionId,
        if_version: Option<i64>,
    ) -> Result<SubscriptionDetails, OpError> {
        self.move_by_hand(who, id, SubscriptionEvent::Resumed, if_version)
            .await
    }

    /// Ends a suspended subscription, and its node with it.
    pub async fn end(
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
            return self.get(who, id).await;
        }
        let once = || async {
            let now = self.records.now();
            let mut tx = self.records.db.begin().await?;
            let locked = lock(&mut tx, id).await?;
            let locked = locked.filter(|locked| is_theirs(who, &locked.subscription));
            let locked = locked.ok_or_else(|| OpError::not_found("subscription", id))?;
            if if_version.is_some_and(|version| version != locked.subscription.version) {
                return Err(OpError::stale("subscription", id));
            }
            let node = locked.node.as_ref().map(|node| node.id);
            let moved = move_subscription(&mut tx, who, locked, event, &self.config, now).await?;
            tx.commit().await?;
            Ok((details(moved.subscription, node), moved.removal))
        };
        let (moved, removal) = retried(once).await?;
        self.engine.follow_removal(who, removal).await?;
        Ok(moved)
    }
}

/// A subscription without a term, for a new node.
pub(super) fn open_ended(new: &NewNode, who: &Principal, now: Millis) -> Subscription {
    Subscription {
        id: SubscriptionId(Uuid::now_v7()),
        owner: who.name.clone(),
        chain_profile_id: new.chain.clone(),
        node_type: new.node_type.clone(),
        provider: new.placement.provider.clone(),
        region: new.placement.region.clone(),
        instance_type: new.placement.instance_type.clone(),
        inputs: new.inputs.clone(),
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

/// Equal requests have the same node type, so an omitted one is filled in before the comparison.
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
