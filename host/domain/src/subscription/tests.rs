//! The whole state × event matrix as a readable table, the effects of time, and properties of every sequence.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use SubscriptionEvent as E;
use SubscriptionState as S;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn subscription(state: S, days: Option<u64>, expires_at: Option<i64>) -> Subscription {
    Subscription {
        id: SubscriptionId(Uuid::nil()),
        owner: "alice".to_owned(),
        chain_profile_id: "toy".to_owned(),
        node_type: "full".to_owned(),
        provider: "local".to_owned(),
        region: "here".to_owned(),
        instance_type: "x".to_owned(),
        inputs: BTreeMap::new(),
        duration: days.map(|days| Duration::from_hours(24 * days)),
        state,
        payment_id: None,
        expires_at: expires_at.map(Millis),
        entered_at: Millis(0),
        created_at: Millis(0),
        updated_at: Millis(0),
        version: 1,
    }
}

fn due(of: &Subscription, at: i64) -> Option<E> {
    of.due(Millis(at), &SubscriptionConfig::default())
}

#[test]
fn the_matrix_of_states_and_events() {
    use std::fmt::Write;
    let mut table = String::new();
    for state in S::ALL {
        for event in E::ALL {
            if let Ok(to) = state.next(*event) {
                writeln!(table, "{state} + {event} -> {to}").unwrap();
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_clock_asks_for_what_is_over() {
    let unpaid = subscription(S::PendingPayment, Some(30), None);
    assert_eq!(due(&unpaid, DAY - 1), None);
    assert_eq!(due(&unpaid, DAY), Some(E::PaymentMissed));
    let active = subscription(S::Active, Some(30), Some(30 * DAY));
    assert_eq!(due(&active, 30 * DAY - 1), None);
    assert_eq!(due(&active, 30 * DAY), Some(E::TermEnded));
    let open_ended = subscription(S::Active, None, None);
    assert_eq!(due(&open_ended, i64::MAX), None);
    let canceled = subscription(S::Canceled, Some(30), Some(30 * DAY));
    assert_eq!(due(&canceled, 30 * DAY - 1), None);
    assert_eq!(due(&canceled, 30 * DAY), Some(E::TermEnded));
    let never_paid = subscription(S::Canceled, Some(30), None);
    assert_eq!(due(&never_paid, 0), Some(E::TermEnded));
    for held in [S::Suspended, S::Expired] {
        assert_eq!(due(&subscription(held, Some(1), Some(0)), i64::MAX), None);
    }
}

#[test]
fn grace_counts_from_when_it_became_past_due() {
    let active = subscription(S::Active, Some(30), Some(30 * DAY));
    // The host was unavailable for a week, so nobody could renew.
    let (past_due, effect) = active.after(E::TermEnded, Millis(37 * DAY)).unwrap();
    assert_eq!((past_due.state, effect), (S::PastDue, None));
    assert_eq!(due(&past_due, 40 * DAY - 1), None);
    assert_eq!(due(&past_due, 40 * DAY), Some(E::GraceEnded));
    let (expired, effect) = past_due.after(E::GraceEnded, Millis(40 * DAY)).unwrap();
    assert_eq!(
        (expired.state, effect),
        (S::Expired, Some(SubscriptionEffect::Terminate))
    );
}

#[test]
fn a_first_payment_makes_the_node_and_a_renewal_only_prolongs() {
    let unpaid = subscription(S::PendingPayment, Some(30), None);
    let (paid, effect) = unpaid.after(E::PaymentCompleted, Millis(DAY)).unwrap();
    assert_eq!(effect, Some(SubscriptionEffect::Provision));
    assert_eq!(paid.expires_at, Some(Millis(31 * DAY)));
    let (early, effect) = paid.after(E::PaymentCompleted, Millis(2 * DAY)).unwrap();
    assert_eq!((early.state, effect), (S::Active, None));
    assert_eq!(early.expires_at, Some(Millis(61 * DAY)));
    assert_eq!(early.entered_at, paid.entered_at);
    let past_due = subscription(S::PastDue, Some(30), Some(30 * DAY));
    let (late, effect) = past_due
        .after(E::PaymentCompleted, Millis(32 * DAY))
        .unwrap();
    assert_eq!((late.state, effect), (S::Active, None));
    assert_eq!(late.expires_at, Some(Millis(60 * DAY)), "grace is no gift");
    let short = subscription(S::PastDue, Some(1), Some(30 * DAY));
    let (short, _) = short.after(E::PaymentCompleted, Millis(32 * DAY)).unwrap();
    assert_eq!(
        short.expires_at,
        Some(Millis(33 * DAY)),
        "it is not over already"
    );
}

#[test]
fn one_without_a_term_takes_no_payment_and_ends_with_its_node() {
    let open_ended = subscription(S::Active, None, None);
    assert!(open_ended.after(E::PaymentCompleted, Millis(1)).is_err());
    for state in [S::Active, S::Suspended, S::Canceled, S::Expired] {
        let mut one = subscription(state, None, None);
        for event in one.ends_with_node() {
            one = one.after(*event, Millis(1)).unwrap().0;
        }
        assert_eq!(one.state, S::Expired, "{state}");
        assert!(
            subscription(state, Some(1), Some(1))
                .ends_with_node()
                .is_empty()
        );
    }
}

/// Which state may follow which.
fn may_become(from: S, to: S) -> bool {
    let allowed: &[S] = match from {
        S::PendingPayment => &[S::Active, S::Canceled, S::Expired],
        S::Active => &[S::PastDue, S::Canceled, S::Suspended],
        S::PastDue | S::Suspended => &[S::Active, S::Expired],
        S::Canceled => &[S::Expired],
        S::Expired => &[],
    };
    allowed.contains(&to)
}

fn any_event() -> impl Strategy<Value = E> {
    prop::sample::select(E::ALL)
}

proptest! {
    #[test]
    fn no_sequence_leaves_the_table(
        steps in prop::collection::vec((any_event(), 0..90 * DAY), 0..60),
        days in prop::option::of(1..400_u64),
    ) {
        let mut now = 0;
        let mut one = subscription(S::PendingPayment, days, None);
        for (event, later) in steps {
            now += later;
            let Ok((after, effect)) = one.after(event, Millis(now)) else { continue };
            prop_assert!(one.state == after.state || may_become(one.state, after.state));
            prop_assert_ne!(one.state, S::Expired);
            prop_assert!(after.expires_at >= one.expires_at, "no term is shortened");
            if event == E::PaymentCompleted {
                prop_assert!(after.expires_at > Some(Millis(now)));
            }
            let is_first = one.state == S::PendingPayment && after.state == S::Active;
            prop_assert_eq!(effect == Some(SubscriptionEffect::Provision), is_first);
            let is_over = after.state == S::Expired;
            prop_assert_eq!(effect == Some(SubscriptionEffect::Terminate), is_over);
            one = after;
        }
    }

    #[test]
    fn what_the_clock_asks_for_is_always_possible_and_ends_by_itself(
        events in prop::collection::vec((any_event(), 0..90 * DAY), 0..20),
        days in 1..400_u64,
    ) {
        let mut now = 0;
        let mut one = subscription(S::PendingPayment, Some(days), None);
        for (event, later) in events {
            now += later;
            if let Ok((after, _)) = one.after(event, Millis(now)) {
                one = after;
            }
        }
        // Rare polls find the same end.
        for _ in 0..3 {
            now += 10_000 * DAY;
            if let Some(event) = due(&one, now) {
                one = one.after(event, Millis(now)).unwrap().0;
            }
        }
        let is_held = one.state == S::Suspended;
        prop_assert!(is_held || one.state == S::Expired, "{}", one.state);
        prop_assert_eq!(due(&one, i64::MAX), None);
    }
}
