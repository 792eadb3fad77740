//! Starts, signals and cancels the workflows of operations: on this host's engine, or by a wake-up of the host that has it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use host_bus::{Bus, Wake};
use host_domain::migration::MigrationConfig;
use host_domain::operation::{Operation, OperationKind};
use host_workflows::node_activities::NodeRef;
use host_workflows::{Engine, EngineError};

use super::node_removal::Removal;
use super::{OpError, Principal, migrations, node_making, node_removal};
use crate::config::ProvisioningConfig;

/// How long a request waits for the engine.
const START_MAX: Duration = Duration::from_secs(3);

/// The workflow engine, on whichever host it runs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct WorkflowEngine {
    engine: Arc<OnceLock<Arc<dyn Engine>>>,
    bus: Bus,
    provisioning: Arc<ProvisioningConfig>,
    migration: Arc<MigrationConfig>,
}

impl WorkflowEngine {
    pub(crate) fn new(
        bus: Bus,
        provisioning: ProvisioningConfig,
        migration: MigrationConfig,
    ) -> Self {
        Self {
            engine: Arc::default(),
            bus,
            provisioning: Arc::new(provisioning),
            migration: Arc::new(migration),
        }
    }

    /// Sets this host's engine. It exists later than this struct, because its activities need this struct.
    pub(crate) fn set(&self, engine: Arc<dyn Engine>) {
        drop(self.engine.set(engine));
    }

    /// The engine, if this host runs the workflows. Otherwise an operation is a row, which the host that runs the workflows
    /// finds.
    pub(crate) fn local(&self) -> Option<&dyn Engine> {
        self.engine.get().map(|engine| &**engine)
    }

    /// Starts the workflow of an operation that was just committed. If the engine is unavailable or slow, the loop over open
    /// operations starts the workflow later.
    pub(crate) async fn begin(&self, operation: &Operation) {
        match tokio::time::timeout(START_MAX, self.start(operation)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = anyhow::Error::from(error);
                tracing::warn!(operation.id = %operation.id, "the workflow starts later: {error:#}");
            }
            Err(_) => {
                tracing::warn!(operation.id = %operation.id, "the workflow starts later: the engine did not respond in time");
            }
        }
    }

    /// Starts the workflow of an operation. Starting the same workflow id again changes nothing.
    pub(crate) async fn start(&self, operation: &Operation) -> Result<(), OpError> {
        let Some(engine) = self.local() else {
            // The host that runs the workflows also polls for the row.
            let operation = operation.id;
            self.bus.wake(Wake::Operation { operation });
            return Ok(());
        };
        let node = NodeRef {
            node_id: operation.node_id,
            operation_id: operation.id,
        };
        let id = &operation.workflow_id;
        let started = match operation.kind {
            OperationKind::ProvisionNode => {
                let input = node_making::workflow_input(node, &self.provisioning);
                host_workflows::start::<host_workflows::provision_node::ProvisionNode>(
                    engine, id, &input,
                )
                .await
            }
            OperationKind::TerminateNode => {
                let input = node_removal::workflow_input(node, operation, &self.provisioning);
                host_workflows::start::<host_workflows::terminate_node::TerminateNode>(
                    engine, id, &input,
                )
                .await
            }
            OperationKind::MigrateNode => {
                let input = migrations::workflow_input(node, &self.provisioning, &self.migration);
                host_workflows::start::<host_workflows::migrate_node::MigrateNode>(
                    engine, id, &input,
                )
                .await
            }
        };
        started.map(drop).map_err(unavailable)
    }

    /// Wakes a waiting workflow. A lost wake-up only costs time: workflows also poll.
    pub(crate) async fn signal(&self, workflow: &str, mailbox: &str) {
        match self.local() {
            Some(engine) => drop(engine.signal(workflow, mailbox, "{}").await),
            None => self.bus.wake(Wake::Workflow {
                workflow: workflow.to_owned(),
                mailbox: mailbox.to_owned(),
            }),
        }
    }

    /// Requests that the workflow of an operation undoes its work; returns whether the engine knows the workflow. If another
    /// host runs the workflows, that host reads the request from the row.
    pub(crate) async fn cancel(
        &self,
        operation: &Operation,
        reason: &str,
    ) -> Result<bool, OpError> {
        let Some(engine) = self.local() else {
            let operation = operation.id;
            self.bus.wake(Wake::Operation { operation });
            return Ok(true);
        };
        match engine.cancel(&operation.workflow_id, reason).await {
            Ok(()) | Err(EngineError::Ended { .. }) => Ok(true),
            // Its start was lost; the loop over open operations starts it and cancels it.
            Err(EngineError::NotFound { .. }) => Ok(false),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Requests that the workflow of a cancelled operation undoes its work. A repeat changes nothing.
    pub(crate) async fn stop(
        &self,
        who: &Principal,
        operation: Operation,
    ) -> Result<Operation, OpError> {
        if operation.state.is_over() {
            return Ok(operation);
        }
        let reason = format!("cancelled by {}", who.name);
        self.cancel(&operation, &reason).await?;
        Ok(operation)
    }

    /// Informs the engine of a committed removal. The loop over open operations repeats what is lost here.
    pub(crate) async fn follow_removal(
        &self,
        who: &Principal,
        removal: Removal,
    ) -> Result<(), OpError> {
        match removal {
            Removal::Started(operation) => self.start(&operation).await,
            Removal::Undoing(operation) => self.stop(who, operation).await.map(drop),
            Removal::Gone | Removal::InProgress(_) | Removal::Migrating(_) => Ok(()),
        }
    }
}

/// The engine failed or did not respond.
pub(crate) fn unavailable(error: EngineError) -> OpError {
    OpError::Unavailable {
        what: "the workflow engine",
        source: error.into(),
    }
}
