//! Subscriptions: what a node is paid by, and until when (design: domain.md, Subscription).
//!
//! Payments, people and the clock move one. What the clock demands is a question to the row ([`Subscription::due`]), asked by
//! a loop that looks again and again, and no workflow that sleeps for a year: a time in a row outlives programs and engines.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::scalars::DurationText;
use crate::ids::SubscriptionId;
use crate::text_enum::text_enum;
use crate::time::{Millis, duration_text};

text_enum! {
    /// Where a subscription stands.
    SubscriptionState {
        /// Made, and not paid yet: it has no node.
        PendingPayment = "pending_payment",
        /// Paid, or without a term.
        Active = "active",
        /// Its term is over and a renewal is waited for; its node runs on.
        PastDue = "past_due",
        /// Held by an admin; the clock does not move it.
        Suspended = "suspended",
        /// Cancelled; it runs to the end of its term.
        Canceled = "canceled",
        /// Over, and so is its node; terminal.
        Expired = "expired",
    }
}

text_enum! {
    /// What moves a subscription.
    SubscriptionEvent {
        /// A payment came: the first one, or a renewal.
        PaymentCompleted = "payment_completed",
        /// No payment came in time.
        PaymentMissed = "payment_missed",
        /// Its owner does not want it beyond its term.
        Canceled = "canceled",
        /// What was paid for is used up.
        TermEnded = "term_ended",
        /// No renewal came in time.
        GraceEnded = "grace_ended",
        /// An admin holds it.
        Suspended = "suspended",
        /// An admin lets it go on.
        Resumed = "resumed",
        /// An admin ends one that was held.
        Ended = "ended",
    }
}

/// What has to follow from a move, in the transaction that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionEffect {
    /// Its node is made: it was paid for the first time.
    Provision,
    /// Its node is terminated: it has expired.
    Terminate,
}

/// An event that the table of domain.md does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a subscription that is `{state}` can't take `{event}`")]
pub struct IllegalSubscriptionEvent {
    /// Where the subscription is.
    pub state: SubscriptionState,
    /// What was asked of it.
    pub event: SubscriptionEvent,
}

impl SubscriptionState {
    /// The only place where a subscription's state changes. A renewal of an active one leaves it active.
    pub fn next(self, event: SubscriptionEvent) -> Result<Self, IllegalSubscriptionEvent> {
        use SubscriptionEvent as E;
        use SubscriptionState as S;
        let (from, to): (&[S], S) = match event {
            E::PaymentCompleted => (&[S::PendingPayment, S::Active, S::PastDue], S::Active),
            E::PaymentMissed => (&[S::PendingPayment], S::Expired),
            E::Canceled => (&[S::PendingPayment, S::Active], S::Canceled),
            E::TermEnded if self == S::Canceled => (&[S::Canceled], S::Expired),
            E::TermEnded => (&[S::Active], S::PastDue),
            E::GraceEnded => (&[S::PastDue], S::Expired),
            E::Suspended => (&[S::Active], S::Suspended),
            E::Resumed => (&[S::Suspended], S::Active),
            E::Ended => (&[S::Suspended], S::Expired),
        };
        if from.contains(&self) {
            Ok(to)
        } else {
            Err(IllegalSubscriptionEvent { state: self, event })
        }
    }
}

/// How long the host waits for payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SubscriptionConfig {
    /// A subscription expires when its first payment does not arrive within this time.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub payment_window: Duration,
    /// How long the node of a subscription that is past due keeps running.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub grace: Duration,
}

impl Default for SubscriptionConfig {
    fn default() -> Self {
        Self {
            payment_window: Duration::from_hours(24),
            grace: Duration::from_hours(72),
        }
    }
}

/// What a customer pays for: a node of one kind, for a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// UUID v7.
    pub id: SubscriptionId,
    /// Who made it.
    pub owner: String,
    /// The chain's profile.
    pub chain_profile_id: String,
    /// One of the profile's node types.
    pub node_type: String,
    /// The provider that its node is for. Internal, as region and instance type are: shown to admins only.
    pub provider: String,
    /// The provider's region.
    pub region: String,
    /// The provider's instance type, for this term.
    pub instance_type: String,
    /// Values of the profile's inputs, for its node.
    pub inputs: BTreeMap<String, String>,
    /// What one payment buys. `None`: it is open-ended, takes no payment, and ends with its node.
    pub duration: Option<Duration>,
    /// Where it stands.
    pub state: SubscriptionState,
    /// The payment that was recorded last.
    pub payment_id: Option<String>,
    /// Until when it is paid; `None` before the first payment, and of one without a term.
    pub expires_at: Option<Millis>,
    /// When it came into its state.
    pub entered_at: Millis,
    /// When it was made.
    pub created_at: Millis,
    /// When it last changed.
    pub updated_at: Millis,
    /// Optimistic lock.
    pub version: i64,
}

impl Subscription {
    /// Whether it has no term: it was not paid for and ends with its node.
    pub fn is_open_ended(&self) -> bool {
        self.duration.is_none()
    }

    /// What the clock asks of it now. Grace counts from when it became past due, not from the end of the term: while the host
    /// was away nobody could renew.
    pub fn due(&self, now: Millis, config: &SubscriptionConfig) -> Option<SubscriptionEvent> {
        use SubscriptionEvent as E;
        let has_stood = |limit: Duration| now >= self.entered_at.plus(limit);
        match self.state {
            SubscriptionState::PendingPayment => {
                has_stood(config.payment_window).then_some(E::PaymentMissed)
            }
            SubscriptionState::Active => {
                let is_over = self.expires_at.is_some_and(|end| now >= end);
                is_over.then_some(E::TermEnded)
            }
            SubscriptionState::PastDue => has_stood(config.grace).then_some(E::GraceEnded),
            SubscriptionState::Canceled => {
                // Without a term there is nothing to wait for.
                let is_over = self.expires_at.is_none_or(|end| now >= end);
                is_over.then_some(E::TermEnded)
            }
            SubscriptionState::Suspended | SubscriptionState::Expired => None,
        }
    }

    /// The subscription after an event, and what has to follow from it.
    pub fn after(
        &self,
        event: SubscriptionEvent,
        now: Millis,
    ) -> Result<(Self, Option<SubscriptionEffect>), IllegalSubscriptionEvent> {
        let before = self.state;
        let state = before.next(event)?;
        let expires_at = if event == SubscriptionEvent::PaymentCompleted {
            let state = before;
            let term = self
                .duration
                .ok_or(IllegalSubscriptionEvent { state, event })?;
            Some(paid_until(self.expires_at, term, now))
        } else {
            self.expires_at
        };
        let entered_at = if state == before {
            self.entered_at
        } else {
            now
        };
        let effect = match (before, state) {
            (SubscriptionState::PendingPayment, SubscriptionState::Active) => {
                Some(SubscriptionEffect::Provision)
            }
            (_, SubscriptionState::Expired) => Some(SubscriptionEffect::Terminate),
            (_, _) => None,
        };
        let after = Self {
            state,
            expires_at,
            entered_at,
            updated_at: now,
            ..self.clone()
        };
        Ok((after, effect))
    }

    /// The events by which it ends when its node is gone. One that was paid for goes to the end of its term.
    pub fn ends_with_node(&self) -> &'static [SubscriptionEvent] {
        use SubscriptionEvent as E;
        if !self.is_open_ended() {
            return &[];
        }
        match self.state {
            SubscriptionState::Active => &[E::Canceled, E::TermEnded],
            SubscriptionState::Suspended => &[E::Ended],
            SubscriptionState::Canceled => &[E::TermEnded],
            // No payment is waited for without a term.
            SubscriptionState::PendingPayment
            | SubscriptionState::PastDue
            | SubscriptionState::Expired => &[],
        }
    }
}

/// The end of a term that is paid now: it follows on the one before, unless it would be over already.
fn paid_until(end: Option<Millis>, term: Duration, now: Millis) -> Millis {
    let follows = end.map(|end| end.plus(term)).filter(|end| *end > now);
    follows.unwrap_or_else(|| now.plus(term))
}

#[cfg(test)]
mod tests;
