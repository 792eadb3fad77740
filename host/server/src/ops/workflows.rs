//! The workflows themselves, for administrators: listed, read with their history, and restarted from the current state of the node.

use host_domain::operation::{Operation, OperationKind};
use host_workflows::{Engine, EngineError, HistoryEntry, Status, StatusKind};

use super::audit::audit;
use super::migrations::NodeMigrations;
use super::node_removal::backs_up_keys;
use super::nodes::Nodes;
use super::records::Records;
use super::workflow_engine::{WorkflowEngine, unavailable};
use super::{OpError, Page, PageRequest, Principal};
use host_store::retried;

/// A workflow, and the operation that it works on.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowDetails {
    /// What the engine knows.
    pub status: Status,
    /// The newest operation of it.
    pub operation: Option<Operation>,
}

/// Use cases on workflows, for administrators.
#[derive(Clone)]
pub struct WorkflowAdmin {
    records: Records,
    engine: WorkflowEngine,
    nodes: Nodes,
    migrations: NodeMigrations,
}

impl WorkflowAdmin {
    pub(crate) fn new(
        records: Records,
        engine: WorkflowEngine,
        nodes: Nodes,
        migrations: NodeMigrations,
    ) -> Self {
        Self {
            records,
            engine,
            nodes,
            migrations,
        }
    }

    /// Workflows in the order of their ids.
    pub async fn list(
        &self,
        state: Option<StatusKind>,
        page: &PageRequest,
    ) -> Result<Page<Status>, OpError> {
        let request = host_workflows::PageRequest {
            state,
            after: page.after()?,
            limit: page.rows() as usize,
        };
        let listed = own_engine(&self.engine)?.list(&request).await;
        let rows = listed.map_err(engine_error)?.items;
        Ok(Page::cut(rows, page, |status| status.id.clone()))
    }

    /// One workflow.
    pub async fn get(&self, id: &str) -> Result<WorkflowDetails, OpError> {
        let status = own_engine(&self.engine)?
            .status(id)
            .await
            .map_err(engine_error)?;
        let status = status.ok_or_else(|| OpError::not_found("workflow", id))?;
        let operation = self.records.db.operation_of_workflow(id).await?;
        Ok(WorkflowDetails { status, operation })
    }

    /// What happened in a workflow, oldest first.
    pub async fn history(
        &self,
        id: &str,
        page: &PageRequest,
    ) -> Result<Page<HistoryEntry>, OpError> {
        let after: Option<Place> = page.after()?;
        let history = own_engine(&self.engine)?.history(id).await;
        let mut rows = match history {
            Err(EngineError::NotFound { .. }) => return Err(OpError::not_found("workflow", id)),
            history => history.map_err(engine_error)?,
        };
        rows.retain(|entry| after.as_ref().is_none_or(|after| Place::of(entry) > *after));
        rows.sort_by_key(Place::of);
        rows.truncate(page.rows() as usize);
        Ok(Page::cut(rows, page, |entry| Place::of(entry).to_string()))
    }

    /// Restarts the work of a workflow from the current state of the node: of a workflow that is lost or has ended without its
    /// operation, and of a migration or a termination that failed.
    pub async fn retry(&self, who: &Principal, id: &str) -> Result<Operation, OpError> {
        let operation = self.records.db.operation_of_workflow(id).await?;
        let operation = operation.ok_or_else(|| OpError::not_found("workflow", id))?;
        if who.effect_on("operation") == Some(operation.id) {
            self.engine.start(&operation).await?;
            return Ok(operation);
        }
        if operation.state.is_over() {
            return match operation.kind {
                OperationKind::MigrateNode => {
                    self.migrations.start(who, operation.node_id, true).await
                }
                OperationKind::ProvisionNode => Err(OpError::Conflict(
                    "what was made is undone, and its node gone; make a new node".to_owned(),
                )),
                OperationKind::TerminateNode => {
                    let copies = backs_up_keys(&operation);
                    self.nodes
                        .terminate(who, operation.node_id, None, copies)
                        .await
                }
            };
        }
        restart_workflow(&self.records, &self.engine, who, operation).await
    }
}

/// Restarts the workflow of an open operation.
pub(crate) async fn restart_workflow(
    records: &Records,
    engine: &WorkflowEngine,
    who: &Principal,
    operation: Operation,
) -> Result<Operation, OpError> {
    let (local, id) = (own_engine(engine)?, &operation.workflow_id);
    let status = local.status(id).await.map_err(engine_error)?;
    match status.map(|status| status.state) {
        Some(StatusKind::Running) => {
            return Err(OpError::Conflict(format!(
                "the workflow is at work; wait for it, or cancel operation {} first",
                operation.id
            )));
        }
        Some(StatusKind::Completed | StatusKind::Failed) => {
            local.delete(id).await.map_err(engine_error)?;
        }
        None => {}
    }
    let now = records.now();
    let write = || async {
        let mut tx = records.db.begin().await?;
        let target = format!("operation/{}", operation.id);
        audit(&mut tx, who, "retry_workflow", target, now).await?;
        Ok::<(), OpError>(tx.commit().await?)
    };
    retried(write).await?;
    engine.start(&operation).await?;
    Ok(operation)
}

fn own_engine(engine: &WorkflowEngine) -> Result<&dyn Engine, OpError> {
    engine.local().ok_or_else(|| {
        OpError::Conflict(
            "another host runs the workflows of this installation; ask that one".to_owned(),
        )
    })
}

fn engine_error(error: EngineError) -> OpError {
    match error {
        EngineError::NotFound { id } => OpError::not_found("workflow", id),
        EngineError::BadName { .. } | EngineError::StillRunning { .. } => {
            OpError::Conflict(error.to_string())
        }
        error => unavailable(error),
    }
}

/// Where in a history: the execution and the place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64, u64);

impl Place {
    fn of(entry: &HistoryEntry) -> Self {
        Self(entry.execution, entry.sequence)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl std::str::FromStr for Place {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (execution, sequence) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self(execution.parse()?, sequence.parse()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_history_comes_back_as_it_went_and_is_ordered() {
        for place in [Place(1, 9), Place(1, 10), Place(2, 0)] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        assert!(Place(1, 9) < Place(1, 10) && Place(1, 10) < Place(2, 0));
        assert!("1".parse::<Place>().is_err());
    }
}
