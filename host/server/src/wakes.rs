//! Wake-ups between the hosts of one installation: sends them after this host's commits, and handles those of other hosts.
//!
//! What a wake-up starts is idempotent and also happens without it, a little later.

use std::time::Duration;

use host_domain::ids::OperationId;
use host_domain::operation::OperationState;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::ops::{OpError, Records, WorkflowEngine};
use crate::services::Services;
use host_bus::{Bus, Wake};
use host_gateway::Sessions;
use host_store::Role;

/// Commits within this time share a wake-up.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Sends and receives wake-ups.
pub(crate) struct Wakes {
    records: Records,
    bus: Bus,
    engine: WorkflowEngine,
    sessions: Sessions,
    shutdown: CancellationToken,
}

impl Wakes {
    pub(crate) fn of(services: &Services) -> Self {
        Self {
            records: services.records(Role::Orchestrator),
            bus: services.bus.clone(),
            engine: services.engine.clone(),
            sessions: services.agents.sessions.clone(),
            shutdown: services.tasks.shutdown.clone(),
        }
    }

    /// Runs until the host stops.
    pub(crate) async fn run(self) {
        tokio::select! {
            () = self.bus.run(&self.shutdown) => {}
            () = self.send() => {}
            () = self.receive() => {}
        }
    }

    /// Wakes other hosts after a new entry in the event log.
    async fn send(&self) {
        let mut changes = self.records.db.changes();
        let mut sent = changes.borrow().logged;
        while changes.changed().await.is_ok() {
            let logged = changes.borrow_and_update().logged;
            // A wake-up of another host does not change `logged`, so hosts don't wake each other in circles.
            if logged != sent {
                sent = logged;
                self.bus.wake(Wake::Log);
                tokio::time::sleep(DEBOUNCE).await;
            }
        }
    }

    async fn receive(&self) {
        let Some(mut wakes) = self.bus.wakes() else {
            return self.shutdown.cancelled().await;
        };
        loop {
            let wake = match wakes.recv().await {
                Ok(wake) => wake,
                Err(RecvError::Lagged(_)) => Wake::Everything,
                Err(RecvError::Closed) => return,
            };
            if let Err(error) = self.handle(&wake).await {
                tracing::warn!("a wake-up failed, the next poll repeats it: {error:#}");
            }
        }
    }

    async fn handle(&self, wake: &Wake) -> Result<(), OpError> {
        match wake {
            Wake::Log => self.records.db.poll_now(),
            Wake::Commands { agent } => self.sessions.notify(*agent),
            Wake::Operation { operation } => self.start_or_cancel(*operation).await?,
            Wake::Workflow { workflow, mailbox } => {
                if self.engine.local().is_some() {
                    self.engine.signal(workflow, mailbox).await;
                }
            }
            Wake::Everything => {
                self.records.db.poll_now();
                self.sessions.notify_all();
            }
        }
        Ok(())
    }

    /// Starts or cancels the workflow of an operation that another host has accepted; both do nothing the second time.
    async fn start_or_cancel(&self, id: OperationId) -> Result<(), OpError> {
        if self.engine.local().is_none() {
            return Ok(());
        }
        let Some(operation) = self.records.db.operation(id).await? else {
            return Ok(());
        };
        match operation.state {
            OperationState::Running => self.engine.start(&operation).await,
            // The loop over open operations repeats a cancel that is lost.
            OperationState::Undoing => self.engine.cancel(&operation, "cancelled").await.map(drop),
            OperationState::Succeeded | OperationState::Failed | OperationState::Cancelled => {
                Ok(())
            }
        }
    }
}
