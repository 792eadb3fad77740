//! Subscriptions: what pays for a node, and until when.
//!
//! Payments, people and time change a subscription. A loop polls each row for what its time requires
//! ([`Subscription::due`]) instead of a workflow that sleeps for a year: a time in a row outlives programs and
//! engines.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::SubscriptionId;
use crate::node::text_enum;
use crate::time::{Millis, duration_text};

text_enum! {
    /// The state of a subscription.
    SubscriptionState {
        /// Created and not paid: it has no node.
        PendingPayment = "pending_payment",
        /// Paid, or without a term.
        Active = "active",
        /// Its term is over without a renewal; its node keeps running.
        PastDue = "past_due",
        /// Suspended by an admin; time does not change it.
        Suspended = "suspended",
        /// Cancelled; it lasts until the end of its term.
        Canceled = "canceled",
        /// Over, and its node is terminated; terminal.
        Expired = "expired",
    }
}

text_enum! {
    /// What changes a subscription.
    SubscriptionEvent {
        /// A payment arrived: the first one, or a renewal.
        PaymentCompleted = "payment_completed",
        /// No payment arrived in time.
        PaymentMissed = "payment_missed",
        /// Its owner does not renew it.
        Canceled = "canceled",
        /// Its paid term is over.
        TermEnded = "term_ended",
        /// No renewal arrived in time.
        GraceEnded = "grace_ended",
        /// An admin suspends it.
        Suspended = "suspended",
        /// An admin resumes it.
        Resumed = "resumed",
        /// An admin ends a suspended one.
        Ended = "ended",
    }
}

/// What must follow from a transition, in the same transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionEffect {
    /// Its node is created after the first payment.
    Provision,
    /// Its node is terminated.
    Terminate,
}

/// An event that the table of transitions does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a subscription in state `{state}` can't handle `{event}`")]
pub struct IllegalSubscriptionEvent {
    /// The subscription's state.
    pub state: SubscriptionState,
    /// The rejected event.
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

/// How long subscriptions wait for payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SubscriptionConfig {
    /// A subscription without a payment within this time expires.
    #[serde(with = "duration_text")]
    pub payment_window: Duration,
    /// How long a node keeps running after its subscription became past due.
    #[serde(with = "duration_text")]
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
    /// The user who created it.
    pub owner: String,
    /// The chain profile.
    pub chain_profile_id: String,
    /// One of the profile's node types.
    pub node_type: String,
    /// The machine provider of its node. Like region and instance type, only admins see it.
    pub provider: String,
    /// The provider's region.
    pub region: String,
    /// The provider's instance type, for this term.
    pub instance_type: String,
    /// Values of the profile's inputs, for its node.
    pub inputs: BTreeMap<String, String>,
    /// The term that one payment buys. `None`: it is open-ended, accepts no payment, and ends with its node.
    pub duration: Option<Duration>,
    /// Its state.
    pub state: SubscriptionState,
    /// The last recorded payment.
    pub payment_id: Option<String>,
    /// The end of the paid term; `None` before the first payment and without a term.
    pub expires_at: Option<Millis>,
    /// When it entered its state.
    pub entered_at: Millis,
    /// When it was created.
    pub created_at: Millis,
    /// When it last changed.
    pub updated_at: Millis,
    /// Optimistic lock.
    pub version: i64,
}

impl Subscription {
    /// Whether it has no term, so that it is not paid for and ends with its node.
    pub fn is_open_ended(&self) -> bool {
        self.duration.is_none()
    }

    /// The event that is due now. The grace period starts when the subscription became past due, not at the end of
    /// the term, because nobody could renew while the host was unavailable.
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
                // Without a term it need not wait.
                let is_over = self.expires_at.is_none_or(|end| now >= end);
                is_over.then_some(E::TermEnded)
            }
            SubscriptionState::Suspended | SubscriptionState::Expired => None,
        }
    }

    /// The subscription after an event, and what must follow from it.
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

    /// The events that end it when its node is gone. A paid one lasts until the end of its term.
    pub fn ends_with_node(&self) -> &'static [SubscriptionEvent] {
        use SubscriptionEvent as E;
        if !self.is_open_ended() {
            return &[];
        }
        match self.state {
            SubscriptionState::Active => &[E::Canceled, E::TermEnded],
            SubscriptionState::Suspended => &[E::Ended],
            SubscriptionState::Canceled => &[E::TermEnded],
            // A subscription without a term waits for no payment.
            SubscriptionState::PendingPayment
            | SubscriptionState::PastDue
            | SubscriptionState::Expired => &[],
        }
    }
}

/// The end of a term that is paid now: it continues the previous term, unless it would be over already.
fn paid_until(end: Option<Millis>, term: Duration, now: Millis) -> Millis {
    let follows = end.map(|end| end.plus(term)).filter(|end| *end > now);
    follows.unwrap_or_else(|| now.plus(term))
}

#[cfg(test)]
mod tests;
