//! An engine that knows what it is told to know.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use host_domain::ids::OperationId;
use host_domain::node::NodeState;
use host_domain::operation::{Operation, OperationKind, OperationState};
use host_domain::time::Millis;
use host_workflows::{
    Engine, EngineError, HistoryEntry, Outcome, Page, PageRequest, Started, Status, StatusKind,
};
use uuid::Uuid;

use super::Bed;

/// Knows what it is told to know, and what was asked of it.
#[derive(Default)]
pub(crate) struct Script {
    workflows: Mutex<Vec<Status>>,
    asked: Mutex<Vec<String>>,
}

impl Script {
    pub(crate) fn set(&self, id: &str, state: StatusKind, updated_at: Millis) {
        let status = Status {
            id: id.to_owned(),
            kind: "provision-node".to_owned(),
            version: "1.0.0".to_owned(),
            state,
            progress: None,
            started_at: Millis(0),
            updated_at,
        };
        let mut workflows = self.workflows.lock().unwrap();
        workflows.retain(|known| known.id != id);
        workflows.push(status);
    }

    /// What was asked of it since the last question.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[async_trait]
impl Engine for Script {
    async fn start(&self, _: &str, id: &str, _: &str) -> Result<Started, EngineError> {
        self.asked.lock().unwrap().push(format!("start {id}"));
        Ok(Started::Started)
    }

    async fn signal(&self, _: &str, _: &str, _: &str) -> Result<(), EngineError> {
        Ok(())
    }

    async fn cancel(&self, _: &str, _: &str) -> Result<(), EngineError> {
        Ok(())
    }

    async fn status(&self, id: &str) -> Result<Option<Status>, EngineError> {
        let workflows = self.workflows.lock().unwrap();
        Ok(workflows.iter().find(|known| known.id == id).cloned())
    }

    async fn result(&self, _: &str, _: Duration) -> Result<Outcome, EngineError> {
        Ok(Outcome::Running)
    }

    async fn list(&self, page: &PageRequest) -> Result<Page, EngineError> {
        let mut items = self.workflows.lock().unwrap().clone();
        items.retain(|known| page.state.is_none_or(|state| known.state == state));
        Ok(Page { items, next: None })
    }

    async fn history(&self, id: &str) -> Result<Vec<HistoryEntry>, EngineError> {
        let entry = |execution, sequence| HistoryEntry {
            execution,
            sequence,
            at: Millis(0),
            event: id.to_owned(),
            detail: "{}".to_owned(),
        };
        Ok(vec![entry(2, 1), entry(1, 10), entry(1, 9)])
    }

    async fn delete(&self, id: &str) -> Result<(), EngineError> {
        self.asked.lock().unwrap().push(format!("delete {id}"));
        Ok(())
    }
}

impl Bed {
    pub(crate) async fn with_engine() -> (Self, Arc<Script>) {
        let bed = Self::new().await;
        let engine = Arc::<Script>::default();
        bed.services.engine.set(engine.clone());
        (bed, engine)
    }

    /// An operation of a workflow that makes a node.
    pub(crate) async fn operation(&self, workflow: &str, state: OperationState) -> Operation {
        let node = self.node(NodeState::Provisioning).await;
        let operation = Operation {
            id: OperationId(Uuid::now_v7()),
            kind: OperationKind::ProvisionNode,
            node_id: node.id,
            workflow_id: workflow.to_owned(),
            state,
            steps: Vec::new(),
            error: None,
            created_at: Millis(0),
            updated_at: Millis(0),
            version: 1,
        };
        let mut tx = self.records.db.begin().await.unwrap();
        tx.insert_operation(&operation).await.unwrap();
        tx.set_operation(node.id, Some(operation.id)).await.unwrap();
        tx.commit().await.unwrap();
        operation
    }
}
