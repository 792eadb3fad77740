//! What each agent measures: the nodes of its machine and the collectors of their chains.

use async_trait::async_trait;
use host_domain::ids::AgentId;
use host_gateway::{AgentAssignments, AssignmentSource, CollectorAssignment, NodeAssignment};

use super::agent_link::next_generation;
use super::records::Records;
use super::{NodeFilter, PAGE_MAX};
use crate::catalogue::{ActiveCollector, Chains};

/// Reads the assignments of agents. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Assignments {
    pub(crate) records: Records,
    pub(crate) chains: Chains,
}

#[async_trait]
impl AssignmentSource for Assignments {
    async fn assignments(&self, agent_id: AgentId) -> anyhow::Result<AgentAssignments> {
        // The number precedes the reads, so that a change during them is sent again under a later number.
        let generation = next_generation(self.records.now());
        let catalogue = self.chains.catalogue();
        let agent = self.records.db.agent(agent_id).await?;
        let Some(agent) = agent else {
            return Ok(AgentAssignments::default());
        };
        let filter = NodeFilter {
            machine_id: Some(agent.machine_id),
            ..NodeFilter::default()
        };
        let mut nodes = Vec::new();
        let mut after = None;
        loop {
            let rows = self.records.db.list_nodes(&filter, after, PAGE_MAX).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.id);
            for node in rows
                .iter()
                .filter(|node| node.condition.state.is_measured())
            {
                let collectors = catalogue
                    .collectors
                    .get(&node.chain_profile_id)
                    .into_iter()
                    .flatten();
                nodes.push(NodeAssignment {
                    node_id: node.id,
                    chain: node.chain_profile_id.clone(),
                    node_type: node.node_type.clone(),
                    ports: node.ports.clone(),
                    collectors: collectors.map(CollectorAssignment::from).collect(),
                });
            }
        }
        Ok(AgentAssignments { generation, nodes })
    }
}

impl From<&ActiveCollector> for CollectorAssignment {
    fn from(active: &ActiveCollector) -> Self {
        Self {
            name: active.settings.name.clone(),
            plugin: active.settings.plugin.clone(),
            component_digest: active.digest.clone(),
            config: active.config.clone(),
            every: active.settings.every,
            grants: active.grants.clone(),
            limits: active.limits.clone(),
        }
    }
}
