//! What follows from what agents say: waiting workflows are told, operations show progress, broken plugins become incidents.

use async_trait::async_trait;
use host_domain::command::Command;
use host_domain::ids::{AgentId, CommandId, NodeId};
use host_domain::node_event::NodeEventEntry;
use host_domain::operation::{OperationKind, OperationState, StepState};
use host_gateway::{
    AgentAssignments, AssignmentSource, CollectorAssignment, CollectorFailure, CommandProgress,
    ComponentReport, GatewayEvents, NodeAssignment, ObservationUpdate,
};
use host_workflows::provision_node;

use super::{LiveData, LiveEvent, NodeFilter, OpError, PAGE_MAX, save_operation};
use crate::app::App;
use host_bus::Wake;

#[async_trait]
impl GatewayEvents for App {
    async fn agent_connected(&self, agent_id: AgentId) {
        if let Err(error) = self.wake_provisionings(agent_id).await {
            tracing::warn!(agent.id = %agent_id, "waiting workflows look by themselves: {error:#}");
        }
    }

    async fn agent_disconnected(&self, agent_id: AgentId) {
        tracing::info!(agent.id = %agent_id, "the agent's session ended");
    }

    async fn command_progress(&self, command_id: CommandId, progress: CommandProgress) {
        if let Err(error) = self.show_progress(command_id, &progress).await {
            tracing::debug!(command.id = %command_id, "progress is not shown: {error:#}");
        }
    }

    async fn command_finished(&self, command: Command) {
        // A hint: the workflow looks by itself when it is lost.
        if let (Some(workflow), Some(mailbox)) = (&command.workflow_id, &command.mailbox) {
            self.hint(workflow, mailbox).await;
        }
    }

    async fn collector_failed(&self, failure: CollectorFailure) {
        if let Err(error) = App::collector_failed(self, &failure).await {
            tracing::warn!(node.id = %failure.node_id, "a failed collector is not told: {error:#}");
        }
    }

    async fn collector_worked(&self, node_id: NodeId, collector: &str) {
        if let Err(error) = App::collector_worked(self, node_id, collector).await {
            tracing::debug!(node.id = %node_id, "a working collector is not told: {error:#}");
        }
    }

    async fn component_reported(&self, agent_id: AgentId, report: ComponentReport) {
        if let Err(error) = self.tell_of_component(agent_id, &report).await {
            tracing::warn!(agent.id = %agent_id, "what an agent can't load is not told: {error:#}");
        }
    }

    async fn node_event(&self, event: NodeEventEntry) {
        tracing::info!(node.id = %event.node_id, kind = event.kind, "{}", event.message);
    }

    async fn observations_stored(&self, update: &ObservationUpdate) {
        let Some(newest) = update.observations.iter().map(|one| one.at).max() else {
            return;
        };
        self.events.send(LiveEvent {
            seq: None,
            node_id: Some(update.node_id),
            chain: update.chain.clone(),
            at: newest,
            what: LiveData::Observation(update.observations.clone()),
        });
    }
}

#[async_trait]
impl AssignmentSource for App {
    async fn assignments(&self, agent_id: AgentId) -> anyhow::Result<AgentAssignments> {
        // The number is taken before the look, so that a change during it is sent again under a later one.
        let generation = self.next_generation();
        let catalogue = self.catalogue();
        let agent = self.db.agent(agent_id).await?;
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
            let rows = self.db.list_nodes(&filter, after, PAGE_MAX).await?;
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

impl From<&crate::catalogue::ActiveCollector> for CollectorAssignment {
    fn from(active: &crate::catalogue::ActiveCollector) -> Self {
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

impl App {
    /// Tells the provisionings and migrations that wait for the agent's host that it is there.
    async fn wake_provisionings(&self, agent_id: AgentId) -> Result<(), OpError> {
        let Some(agent) = self.db.agent(agent_id).await? else {
            return Ok(());
        };
        let filter = NodeFilter {
            machine_id: Some(agent.machine_id),
            state: Some(host_domain::node::NodeState::Provisioning),
            ..NodeFilter::default()
        };
        for node in self.db.list_nodes(&filter, None, PAGE_MAX).await? {
            let workflow = provision_node::workflow_id(node.id);
            self.hint(&workflow, provision_node::AGENT_READY).await;
        }
        let open = self.db.open_node_migrations(PAGE_MAX).await?.into_iter();
        for migration in open.filter(|open| open.target == Some(agent.machine_id)) {
            if let Some(operation) = self.db.operation(migration.operation_id).await? {
                let workflow = &operation.workflow_id;
                self.hint(workflow, provision_node::AGENT_READY).await;
            }
        }
        Ok(())
    }

    /// Wakes a waiting workflow. It looks by itself when the hint is lost, or when another host runs it.
    pub(crate) async fn hint(&self, workflow: &str, mailbox: &str) {
        match self.engine() {
            Some(engine) => drop(engine.signal(workflow, mailbox, "{}").await),
            None => self.bus.wake(Wake::Workflow {
                workflow: workflow.to_owned(),
                mailbox: mailbox.to_owned(),
            }),
        }
    }

    /// Shows a command's progress on the step of the operation that is at work.
    async fn show_progress(
        &self,
        id: CommandId,
        progress: &CommandProgress,
    ) -> Result<(), OpError> {
        let Some(command) = self.db.command(id).await? else {
            return Ok(());
        };
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        for mut operation in tx.open_operations(command.node_id, PAGE_MAX).await? {
            let is_shown = operation.kind == OperationKind::ProvisionNode
                && operation.state == OperationState::Running;
            let running = operation
                .steps
                .iter_mut()
                .find(|step| step.state == StepState::Running);
            let Some(step) = running.filter(|_| is_shown) else {
                continue;
            };
            step.message = format!("{}: {}", progress.step, progress.message);
            step.fraction = overall(progress);
            step.at = Some(now);
            let operation = save_operation(&mut tx, operation, now).await?;
            super::log_operation(&mut tx, &operation, now).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// The share of the whole command: finished steps and the part of the present one.
fn overall(progress: &CommandProgress) -> Option<f64> {
    let count = progress.step_count;
    (count > 0).then(|| {
        let done = f64::from(progress.step_index) + progress.fraction.unwrap_or(0.0);
        (done / f64::from(count)).clamp(0.0, 1.0)
    })
}
