//! What activities on machines work with.

use crate::ops::{AgentLink, Chains, Machines, Records};
use crate::services::Services;

/// The services of activities on machines. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MachineWork {
    pub(super) records: Records,
    pub(super) chains: Chains,
    pub(super) agents: AgentLink,
    pub(super) machines: Machines,
}

impl MachineWork {
    pub(crate) fn of(services: &Services, records: &Records) -> Self {
        Self {
            records: records.clone(),
            chains: services.chains.clone(),
            agents: services.agents.clone(),
            machines: services.machines.clone(),
        }
    }
}
