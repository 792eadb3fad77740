//! Subscriptions and their payments: changed by compare-and-swap, because people, payments and timers may write at
//! once.

use std::collections::BTreeMap;
use std::time::Duration;

use host_domain::ids::{NodeId, SubscriptionId};
use host_domain::node::Node;
use host_domain::subscription::{Subscription, SubscriptionConfig, SubscriptionState};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, json, sql};

/// A filter of subscriptions; absent fields match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionFilter {
    /// Of one owner.
    pub owner: Option<String>,
    /// Chain profile id.
    pub chain: Option<String>,
    /// In one state.
    pub state: Option<SubscriptionState>,
}

/// The effect of one payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionPayment {
    /// The payment's id at its payment provider.
    pub payment_id: String,
    /// The subscription that it paid for.
    pub subscription_id: SubscriptionId,
    /// The end of the term that it paid.
    pub paid_until: Millis,
    /// When it was recorded.
    pub recorded_at: Millis,
}

impl FromRow for Subscription {
    const TABLE: &'static str = "subscriptions";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            id: row.parsed("id")?,
            owner: row.text("owner")?,
            chain_profile_id: row.text("chain_profile_id")?,
            node_type: row.text("node_type")?,
            provider: row.text("provider")?,
            region: row.text("region")?,
            instance_type: row.text("instance_type")?,
            inputs: row.json("inputs")?,
            duration: duration(row)?,
            state: row.named("state", SubscriptionState::parse)?,
            payment_id: row.text_opt("payment_id")?,
            expires_at: row.millis_opt("expires_at")?,
            entered_at: row.millis("entered_at")?,
            created_at: row.millis("created_at")?,
            updated_at: row.millis("updated_at")?,
            version: row.int("version")?,
        })
    }
}

fn duration(row: &Row) -> Result<Option<Duration>, BadColumn> {
    let ms = row.int_opt("duration_ms")?.map(u64::try_from).transpose();
    let ms = ms.map_err(|error| BadColumn::new("duration_ms", error))?;
    Ok(ms.map(Duration::from_millis))
}

fn duration_ms(duration: Option<Duration>) -> Option<i64> {
    duration.map(|duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

impl FromRow for SubscriptionPayment {
    const TABLE: &'static str = "subscription_payments";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            payment_id: row.text("payment_id")?,
            subscription_id: row.parsed("subscription_id")?,
            paid_until: row.millis("paid_until")?,
            recorded_at: row.millis("recorded_at")?,
        })
    }
}

/// Only the id: an invalid row must not hide other rows.
struct SubscriptionKey(SubscriptionId);

impl FromRow for SubscriptionKey {
    const TABLE: &'static str = "subscriptions";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        row.parsed("id").map(Self)
    }
}

/// A node and its subscription.
struct PaidNode(SubscriptionId, NodeId);

impl FromRow for PaidNode {
    const TABLE: &'static str = "nodes";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self(row.parsed("subscription_id")?, row.parsed("id")?))
    }
}

impl Reader {
    /// A subscription by its id.
    pub async fn subscription(
        &self,
        id: SubscriptionId,
    ) -> Result<Option<Subscription>, StoreError> {
        const SQL: &str = "SELECT * FROM subscriptions WHERE id = $1";
        self.first(sql(SQL).bind(id)).await
    }

    /// The subscription with the same owner, chain, node type and duration that waits for its payment.
    pub async fn equal_pending_subscription(
        &self,
        owner: &str,
        chain: &str,
        node_type: &str,
        duration: Duration,
    ) -> Result<Option<Subscription>, StoreError> {
        const SQL: &str = "SELECT * FROM subscriptions
            WHERE owner = $1 AND chain_profile_id = $2 AND node_type = $3 AND duration_ms = $4
              AND state = 'pending_payment'";
        let stmt = sql(SQL)
            .bind(owner)
            .bind(chain)
            .bind(node_type)
            .bind(duration_ms(Some(duration)));
        self.first(stmt).await
    }

    /// Subscriptions, newest first, before `before`.
    pub async fn list_subscriptions(
        &self,
        filter: &SubscriptionFilter,
        before: Option<SubscriptionId>,
        limit: u32,
    ) -> Result<Vec<Subscription>, StoreError> {
        const SQL: &str = "SELECT * FROM subscriptions
            WHERE ($1 IS NULL OR owner = $1) AND ($2 IS NULL OR chain_profile_id = $2)
              AND ($3 IS NULL OR state = $3) AND ($4 IS NULL OR id < $4)
            ORDER BY id DESC LIMIT $5";
        let stmt = sql(SQL)
            .bind(filter.owner.as_deref())
            .bind(filter.chain.as_deref())
            .bind(filter.state.map(SubscriptionState::as_str))
            .bind(before)
            .bind(limit);
        self.all(stmt).await
    }

    /// Subscriptions for which an event may be due, in the order of their creation, after `after`.
    /// `Subscription::due` decides.
    pub async fn due_subscriptions(
        &self,
        now: Millis,
        config: &SubscriptionConfig,
        after: Option<SubscriptionId>,
        limit: u32,
    ) -> Result<Vec<SubscriptionId>, StoreError> {
        const SQL: &str = "SELECT id FROM subscriptions
            WHERE ((state = 'pending_payment' AND entered_at <= $1)
                OR (state = 'active' AND expires_at <= $2)
                OR (state = 'past_due' AND entered_at <= $3)
                OR (state = 'canceled' AND (expires_at IS NULL OR expires_at <= $2)))
              AND ($4 IS NULL OR id > $4)
            ORDER BY id LIMIT $5";
        let stmt = sql(SQL)
            .bind(now.minus(config.payment_window))
            .bind(now)
            .bind(now.minus(config.grace))
            .bind(after)
            .bind(limit);
        let found: Vec<SubscriptionKey> = self.all(stmt).await?;
        Ok(found.into_iter().map(|SubscriptionKey(id)| id).collect())
    }

    /// Expired subscriptions with a node whose removal has not started, in the order of their creation, after
    /// `after`.
    pub async fn expired_subscriptions_with_a_node(
        &self,
        after: Option<SubscriptionId>,
        limit: u32,
    ) -> Result<Vec<SubscriptionId>, StoreError> {
        const SQL: &str = "SELECT subscriptions.id AS id FROM subscriptions
            JOIN nodes ON nodes.subscription_id = subscriptions.id
            WHERE subscriptions.state = 'expired' AND nodes.state NOT IN ('terminating', 'terminated', 'failed')
              AND ($1 IS NULL OR subscriptions.id > $1)
            ORDER BY subscriptions.id LIMIT $2";
        let found: Vec<SubscriptionKey> = self.all(sql(SQL).bind(after).bind(limit)).await?;
        Ok(found.into_iter().map(|SubscriptionKey(id)| id).collect())
    }

    /// The node of a subscription; `None` before its first payment.
    pub async fn node_of_subscription(
        &self,
        id: SubscriptionId,
    ) -> Result<Option<Node>, StoreError> {
        const SQL: &str = "SELECT * FROM nodes WHERE subscription_id = $1";
        self.first(sql(SQL).bind(id)).await
    }

    /// The nodes of these subscriptions.
    pub async fn nodes_of_subscriptions(
        &self,
        ids: &[SubscriptionId],
    ) -> Result<BTreeMap<SubscriptionId, NodeId>, StoreError> {
        const SQL: &str = "SELECT id, subscription_id FROM nodes
            WHERE subscription_id IN (VALUES {}) ORDER BY id";
        let ids = ids.iter().map(|id| vec![(*id).into()]).collect();
        let found: Vec<PaidNode> = self.all_list(SQL, ids).await?;
        Ok(found
            .into_iter()
            .map(|PaidNode(of, node)| (of, node))
            .collect())
    }

    /// The record of a payment; `None` when it was not recorded.
    pub async fn subscription_payment(
        &self,
        payment_id: &str,
    ) -> Result<Option<SubscriptionPayment>, StoreError> {
        const SQL: &str = "SELECT * FROM subscription_payments WHERE payment_id = $1";
        self.first(sql(SQL).bind(payment_id)).await
    }
}

impl Tx {
    /// Inserts a subscription. `Conflict` when an equal one waits for its payment.
    pub async fn insert_subscription(
        &mut self,
        subscription: &Subscription,
    ) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO subscriptions (id, owner, chain_profile_id, node_type, provider, region,
                instance_type, inputs, duration_ms, state, payment_id, expires_at, entered_at, created_at,
                updated_at, version)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
        let stmt = sql(SQL)
            .bind(subscription.id)
            .bind(&subscription.owner)
            .bind(&subscription.chain_profile_id)
            .bind(&subscription.node_type)
            .bind(&subscription.provider)
            .bind(&subscription.region)
            .bind(&subscription.instance_type)
            .bind(json(&subscription.inputs))
            .bind(duration_ms(subscription.duration))
            .bind(subscription.state.as_str())
            .bind(subscription.payment_id.as_deref())
            .bind(subscription.expires_at)
            .bind(subscription.entered_at)
            .bind(subscription.created_at)
            .bind(subscription.updated_at)
            .bind(subscription.version);
        let inserted = self.execute(stmt).await;
        inserted
            .map_err(|error| error.taken("an equal subscription that waits for its payment"))?;
        Ok(())
    }

    /// Updates state, payment and times of a subscription unless it changed since `subscription.version`, and returns
    /// the new version. What it is for never changes.
    pub async fn update_subscription(
        &mut self,
        subscription: &Subscription,
    ) -> Result<Option<i64>, StoreError> {
        const SQL: &str = "UPDATE subscriptions SET state = $1, payment_id = $2, expires_at = $3,
                entered_at = $4, updated_at = $5, version = version + 1
            WHERE id = $6 AND version = $7 RETURNING version AS number";
        let stmt = sql(SQL)
            .bind(subscription.state.as_str())
            .bind(subscription.payment_id.as_deref())
            .bind(subscription.expires_at)
            .bind(subscription.entered_at)
            .bind(subscription.updated_at)
            .bind(subscription.id)
            .bind(subscription.version);
        self.number(stmt).await
    }

    /// Locks a subscription until this transaction ends, so that later reads in it stay valid. `false` when the
    /// subscription does not exist.
    pub async fn hold_subscription(&mut self, id: SubscriptionId) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE subscriptions SET version = version WHERE id = $1";
        Ok(self.execute(sql(SQL).bind(id)).await? == 1)
    }

    /// Records a payment. `Conflict` when it was recorded before.
    pub async fn insert_subscription_payment(
        &mut self,
        payment: &SubscriptionPayment,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO subscription_payments
            (payment_id, subscription_id, paid_until, recorded_at) VALUES ($1, $2, $3, $4)";
        let stmt = sql(SQL)
            .bind(&payment.payment_id)
            .bind(payment.subscription_id)
            .bind(payment.paid_until)
            .bind(payment.recorded_at);
        let inserted = self.execute(stmt).await;
        inserted.map_err(|error| error.taken("a record of this payment"))?;
        Ok(())
    }
}
