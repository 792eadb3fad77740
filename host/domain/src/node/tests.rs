//! The whole state × event matrix as a readable table, and properties of every sequence.

use proptest::prelude::*;

use super::*;

#[test]
fn the_matrix_of_states_and_events() {
    use std::fmt::Write;
    let mut table = String::new();
    for state in NodeState::ALL {
        for event in NodeEvent::ALL {
            if let Ok(to) = state.next(*event) {
                writeln!(table, "{state} + {event} -> {to}").unwrap();
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn display_state_shows_infrastructure_first() {
    use {ApplicationHealth as H, NodeState as S, SyncStatus as Y};
    let at = |state, application_health, sync_status| {
        Condition {
            state,
            sync_status,
            application_health,
        }
        .display_state()
    };
    assert_eq!(at(S::Down, H::Critical, Y::Synced), "down");
    assert_eq!(at(S::Healthy, H::Critical, Y::Syncing), "critical");
    assert_eq!(at(S::Healthy, H::Degraded, Y::Synced), "degraded");
    assert_eq!(at(S::Healthy, H::Ok, Y::Syncing), "syncing");
    assert_eq!(at(S::Healthy, H::Unknown, Y::Unknown), "healthy");
}

#[test]
fn nodes_are_measured_from_installation_to_removal() {
    let measured = NodeState::ALL.iter().filter(|state| state.is_measured());
    let measured: Vec<&str> = measured.map(|state| state.as_str()).collect();
    assert_eq!(
        measured,
        ["syncing", "healthy", "degraded", "down", "maintenance"]
    );
}

fn any_event() -> impl Strategy<Value = NodeEvent> {
    prop::sample::select(NodeEvent::ALL)
}

proptest! {
    #[test]
    fn no_sequence_leaves_the_table(events in prop::collection::vec(any_event(), 0..60)) {
        let mut condition = Condition {
            sync_status: SyncStatus::Synced,
            application_health: ApplicationHealth::Ok,
            ..Condition::NEW
        };
        for event in events {
            let before = condition;
            if let Ok(after) = condition.after(event) {
                prop_assert!(before.state.may_become(after.state));
                prop_assert!(!before.state.is_terminal());
                condition = after;
            }
            if condition.state.is_terminal() {
                prop_assert_eq!(condition.sync_status, SyncStatus::Unknown);
                prop_assert_eq!(condition.application_health, ApplicationHealth::Unknown);
            }
        }
    }
}
