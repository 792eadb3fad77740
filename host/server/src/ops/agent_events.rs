//! Reports of agents: they wake waiting workflows, update the progress of operations, and raise incidents of failed plugins.

use async_trait::async_trait;
use host_domain::command::Command;
use host_domain::ids::{AgentId, CommandId, NodeId};
use host_domain::node_event::NodeEventEntry;
use host_domain::operation::{OperationKind, OperationState, StepState};
use host_gateway::{
    CollectorFailure, CommandProgress, ComponentReport, GatewayEvents, ObservationUpdate,
};
use host_workflows::provision_node;

use super::collectors::Collectors;
use super::component_reports::report_component;
use super::events::LiveEvents;
use super::records::Records;
use super::workflow_engine::WorkflowEngine;
use super::{LiveData, LiveEvent, NodeFilter, OpError, PAGE_MAX, log_operation, save_operation};
use crate::catalogue::Chains;

/// Handles what agents report. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AgentEvents {
    pub(crate) records: Records,
    pub(crate) chains: Chains,
    pub(crate) engine: WorkflowEngine,
    pub(crate) collectors: Collectors,
    pub(crate) live: LiveEvents,
}

#[async_trait]
impl GatewayEvents for AgentEvents {
    async fn agent_connected(&self, agent_id: AgentId) {
        if let Err(error) = self.wake_provisionings(agent_id).await {
            tracing::warn!(agent.id = %agent_id, "waiting workflows poll: {error:#}");
        }
    }

    async fn agent_disconnected(&self, agent_id: AgentId) {
        tracing::info!(agent.id = %agent_id, "the agent's session ended");
    }

    async fn command_progress(&self, command_id: CommandId, progress: CommandProgress) {
        if let Err(error) = self.show_progress(command_id, &progress).await {
            tracing::debug!(command.id = %command_id, "the progress was not recorded: {error:#}");
        }
    }

    async fn command_finished(&self, command: Command) {
        // If this signal is lost, the workflow polls.
        if let (Some(workflow), Some(mailbox)) = (&command.workflow_id, &command.mailbox) {
            self.engine.signal(workflow, mailbox).await;
        }
    }

    async fn collector_failed(&self, failure: CollectorFailure) {
        if let Err(error) = self.collectors.failed(&failure).await {
            tracing::warn!(node.id = %failure.node_id, "the incident of a failed collector was not updated: {error:#}");
        }
    }

    async fn collector_worked(&self, node_id: NodeId, collector: &str) {
        if let Err(error) = self.collectors.worked(node_id, collector).await {
            tracing::debug!(node.id = %node_id, "the success of a collector was not recorded: {error:#}");
        }
    }

    async fn component_reported(&self, agent_id: AgentId, report: ComponentReport) {
        if let Err(error) = report_component(&self.records, &self.chains, agent_id, &report).await {
            tracing::warn!(agent.id = %agent_id, "the report about a component was not recorded: {error:#}");
        }
    }

    async fn node_event(&self, event: NodeEventEntry) {
        tracing::info!(node.id = %event.node_id, kind = event.kind, "{}", event.message);
    }

    async fn observations_stored(&self, update: &ObservationUpdate) {
        let Some(newest) = update.observations.iter().map(|one| one.at).max() else {
            return;
        };
        self.live.send(LiveEvent {
            seq: None,
            node_id: Some(update.node_id),
            chain: update.chain.clone(),
            at: newest,
            what: LiveData::Observation(update.observations.clone()),
        });
    }
}

impl AgentEvents {
    /// Wakes the provisionings and migrations that wait for the agent's machine.
    async fn wake_provisionings(&self, agent_id: AgentId) -> Result<(), OpError> {
        let Some(agent) = self.records.db.agent(agent_id).await? else {
            return Ok(());
        };
        let filter = NodeFilter {
            machine_id: Some(agent.machine_id),
            state: Some(host_domain::node::NodeState::Provisioning),
            ..NodeFilter::default()
        };
        for node in self.records.db.list_nodes(&filter, None, PAGE_MAX).await? {
            let workflow = provision_node::workflow_id(node.id);
            self.engine
                .signal(&workflow, provision_node::AGENT_READY)
                .await;
        }
        let open = self
            .records
            .db
            .open_node_migrations(PAGE_MAX)
            .await?
            .into_iter();
        for migration in open.filter(|open| open.target == Some(agent.machine_id)) {
            if let Some(operation) = self.records.db.operation(migration.operation_id).await? {
                let workflow = &operation.workflow_id;
                self.engine
                    .signal(workflow, provision_node::AGENT_READY)
                    .await;
            }
        }
        Ok(())
    }

    /// Shows a command's progress on the step of the operation that is at work.
    async fn show_progress(
        &self,
        id: CommandId,
        progress: &CommandProgress,
    ) -> Result<(), OpError> {
        let Some(command) = self.records.db.command(id).await? else {
            return Ok(());
        };
        let now = self.records.now();
        let mut tx = self.records.db.begin().await?;
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
            log_operation(&mut tx, &operation, now).await?;
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
