//! Which machine takes a node that migrates, where the nodes of a provider share machines.

use std::time::Duration;

use crate::agent::Machine;
use crate::time::Millis;

/// A machine with what the choice depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineLoad {
    /// The machine.
    pub machine: Machine,
    /// How many nodes are placed on it.
    pub n_nodes: u32,
    /// The last heartbeat of its agent; `None` without an agent.
    pub agent_seen_at: Option<Millis>,
}

impl MachineLoad {
    fn is_alive(&self, now: Millis, heartbeat_timeout: Duration) -> bool {
        self.agent_seen_at
            .is_some_and(|at| now.since(at) < heartbeat_timeout)
    }
}

/// The machine with the fewest nodes, of those whose agent is alive; the first of equal ones.
pub fn choose_target(
    machines: impl IntoIterator<Item = MachineLoad>,
    now: Millis,
    heartbeat_timeout: Duration,
) -> Option<MachineLoad> {
    machines
        .into_iter()
        .filter(|load| load.is_alive(now, heartbeat_timeout))
        .min_by_key(|load| load.n_nodes)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ids::MachineId;

    const TIMEOUT: Duration = Duration::from_secs(45);

    fn load(name: &str, n_nodes: u32, seen_s: Option<i64>) -> MachineLoad {
        MachineLoad {
            machine: Machine {
                id: MachineId(Uuid::nil()),
                name: name.to_owned(),
                provider: "byo".to_owned(),
                region: "byo".to_owned(),
                ip: None,
                created_at: Millis(0),
            },
            n_nodes,
            agent_seen_at: seen_s.map(|seconds| Millis(seconds * 1_000)),
        }
    }

    fn chosen(loads: &[MachineLoad]) -> Option<String> {
        let target = choose_target(loads.iter().cloned(), Millis(100_000), TIMEOUT);
        target.map(|load| load.machine.name)
    }

    #[test]
    fn the_machine_with_the_fewest_nodes_takes_a_node() {
        let loads = [
            load("full", 3, Some(99)),
            load("first", 1, Some(99)),
            load("second", 1, Some(99)),
        ];
        assert_eq!(chosen(&loads).as_deref(), Some("first"));
    }

    #[test]
    fn a_machine_without_a_live_agent_takes_no_node() {
        let loads = [
            load("without agent", 0, None),
            load("silent", 0, Some(55)),
            load("alive", 9, Some(56)),
        ];
        assert_eq!(chosen(&loads).as_deref(), Some("alive"));
        assert_eq!(chosen(&loads[..2]), None);
    }
}
