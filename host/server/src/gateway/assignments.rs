//! When a node is measured.

use host_domain::node::NodeState;

/// Whether a node in this state is measured: from the end of its installation to the beginning of its removal.
pub fn is_measured(state: NodeState) -> bool {
    use NodeState as S;
    match state {
        S::Syncing | S::Healthy | S::Degraded | S::Down | S::Maintenance => true,
        S::Provisioning | S::Terminating | S::Terminated | S::Failed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_measured_from_installation_to_removal() {
        let measured: Vec<&str> = NodeState::ALL
            .iter()
            .filter(|state| is_measured(**state))
            .map(|state| state.as_str())
            .collect();
        assert_eq!(
            measured,
            ["syncing", "healthy", "degraded", "down", "maintenance"]
        );
    }
}
