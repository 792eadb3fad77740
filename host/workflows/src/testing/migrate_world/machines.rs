//! The world's implementation of activities for machines of the node's own; shared machines are only reserved.

use super::{MachineSight, MigrateWorld, ROUTE, TARGET};
use crate::activity::Activities;
use crate::migrate_activities::{ClaimTarget, DestroyTarget, Target};
use crate::node_activities::{
    BootstrapAgent, CheckAgent, CreateMachine, PlanMachine, Ready, RevokeEnrolmentToken,
};

impl MigrateWorld {
    pub(super) fn on_machines(&self, activities: &mut Activities) {
        self.on(activities, ClaimTarget, |inside, _| {
            inside.sight.is_reserved = true;
            inside.sight.target.claims = u32::from(inside.is_own);
            Target {
                route: ROUTE,
                is_own: inside.is_own,
            }
        });
        self.on(activities, PlanMachine, |inside, machine| {
            assert_eq!(machine.machine_id, TARGET);
            inside.sight.target.plans = 1;
            inside.sight.tokens = 1;
        });
        self.on(activities, CreateMachine, |inside, machine| {
            let machine = inside.machine(machine.machine_id);
            assert_eq!(machine.plans, 1, "nothing is created without a plan");
            machine.machines = 1;
        });
        self.on(activities, BootstrapAgent, |inside, machine| {
            let machine = inside.machine(machine.machine_id);
            assert_eq!(machine.machines, 1, "no machine exists for the agent");
            machine.agents = 1;
        });
        self.on(activities, CheckAgent, |inside, _| {
            // Enrolling consumes the token.
            inside.sight.tokens = 0;
            Ready {
                is_ready: !inside.is_agent_missing,
            }
        });
        self.on(activities, RevokeEnrolmentToken, |inside, _| {
            inside.sight.tokens = 0;
        });
        self.on(activities, DestroyTarget, |inside, _| {
            let sight = &mut inside.sight;
            assert!(!sight.target.is_running, "the process runs");
            assert_ne!(sight.place, "target", "the node is on it");
            sight.is_reserved = false;
            if inside.is_own {
                sight.target = MachineSight::default();
            }
        });
    }
}
