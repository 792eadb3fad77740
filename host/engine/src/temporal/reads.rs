//! Reads workflows from Temporal in the types of the workflow port.

use std::collections::BTreeMap;
use std::time::Duration;

use host_domain::time::Millis;
use host_workflows::{HistoryEntry, Outcome, PageRequest, Status, StatusKind};
use temporalio_client::Connection;
use temporalio_client::tonic::{Code, IntoRequest, Status as RpcStatus};
use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::enums::v1::{
    HistoryEventFilterType, WorkflowExecutionStatus as State,
};
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use temporalio_common::protos::temporal::api::history::v1::{
    HistoryEvent, WorkflowExecutionStartedEventAttributes,
};
use temporalio_common::protos::temporal::api::workflow::v1::WorkflowExecutionInfo;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryReverseRequest, ListWorkflowExecutionsRequest,
};

use super::payload::{Envelope, decoded, noted, read_failure, text};

/// How many workflows one request returns.
const LIST_PAGE: i32 = 1_000;
/// How many events one request returns.
const EVENTS_PAGE: i32 = 500;
/// How many executions of one workflow a history covers.
const EXECUTIONS_MAX: usize = 200;
/// The time limit of one request for an end; Temporal itself answers within 20 s.
const END_POLL: Duration = Duration::from_secs(40);

/// Where workflows are read from.
pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) namespace: String,
    pub(super) task_queue: String,
}

/// The execution of an id, or its current one when `run_id` is empty.
pub(super) fn execution(id: &str, run_id: &str) -> WorkflowExecution {
    WorkflowExecution {
        workflow_id: id.to_owned(),
        run_id: run_id.to_owned(),
    }
}

impl Reader {
    /// What Temporal knows about the current execution of an id.
    pub(super) async fn info(&self, id: &str) -> Result<Option<WorkflowExecutionInfo>, RpcStatus> {
        let wish = DescribeWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            execution: Some(execution(id, "")),
        };
        let mut service = self.connection.workflow_service();
        let found = service
            .describe_workflow_execution(wish.into_request())
            .await;
        Ok(known(found)?.and_then(|found| found.into_inner().workflow_execution_info))
    }

    /// The status of a workflow.
    pub(super) async fn status(&self, id: &str) -> Result<Option<Status>, RpcStatus> {
        match self.info(id).await? {
            Some(info) => self.with_last_event(info).await.map(Some),
            None => Ok(None),
        }
    }

    /// The status of a running workflow includes its newest event, which Temporal's description lacks.
    async fn with_last_event(&self, info: WorkflowExecutionInfo) -> Result<Status, RpcStatus> {
        let status = status(&info);
        if status.state != StatusKind::Running {
            return Ok(status);
        }
        let wish = GetWorkflowExecutionHistoryReverseRequest {
            namespace: self.namespace.clone(),
            execution: info.execution,
            maximum_page_size: 1,
            ..GetWorkflowExecutionHistoryReverseRequest::default()
        };
        let mut service = self.connection.workflow_service();
        let newest = service
            .get_workflow_execution_history_reverse(wish.into_request())
            .await;
        let newest = known(newest)?.and_then(|newest| newest.into_inner().history);
        let newest = newest.and_then(|history| history.events.into_iter().next());
        let updated_at = newest.map_or(status.started_at, |event| at(&event));
        Ok(Status {
            updated_at,
            ..status
        })
    }

    /// How a workflow ended, once it has ended; `None` when the id is unknown.
    pub(super) async fn end(&self, id: &str) -> Result<Option<Outcome>, RpcStatus> {
        let mut wish = GetWorkflowExecutionHistoryRequest {
            namespace: self.namespace.clone(),
            execution: Some(execution(id, "")),
            wait_new_event: true,
            history_event_filter_type: HistoryEventFilterType::CloseEvent.into(),
            skip_archival: true,
            ..GetWorkflowExecutionHistoryRequest::default()
        };
        loop {
            let mut service = self.connection.workflow_service();
            let found = service.get_workflow_execution_history(wish.clone().into_request());
            let Ok(found) = tokio::time::timeout(END_POLL, found).await else {
                continue;
            };
            let Some(found) = known(found)? else {
                return Ok(None);
            };
            let found = found.into_inner();
            let last = found
                .history
                .and_then(|history| history.events.into_iter().next_back());
            match last.and_then(|event| event.attributes).and_then(ended) {
                Some(End::Outcome(outcome)) => return Ok(Some(outcome)),
                Some(End::Next(run_id)) => {
                    wish.execution = Some(execution(id, &run_id));
                    wish.next_page_token.clear();
                }
                None => wish.next_page_token = found.next_page_token,
            }
        }
    }

    /// A page of workflows by id. Temporal lists by time, so this reads all workflows after the given id and keeps
    /// the first ones.
    pub(super) async fn list(
        &self,
        page: &PageRequest,
        limit: usize,
    ) -> Result<(Vec<Status>, bool), RpcStatus> {
        let state = match page.state {
            None => "ExecutionStatus != 'ContinuedAsNew'",
            Some(StatusKind::Running) => "ExecutionStatus = 'Running'",
            Some(StatusKind::Completed) => "ExecutionStatus = 'Completed'",
            Some(StatusKind::Failed) => {
                "ExecutionStatus IN ('Failed', 'Canceled', 'Terminated', 'TimedOut')"
            }
        };
        // Our ids contain no quotes.
        let after = page.after.as_ref().map_or(String::new(), |after| {
            format!(" AND WorkflowId > '{}'", after.replace('\'', ""))
        });
        let query = format!("TaskQueue = '{}' AND {state}{after}", self.task_queue);
        let mut wish = ListWorkflowExecutionsRequest {
            namespace: self.namespace.clone(),
            page_size: LIST_PAGE,
            query,
            ..ListWorkflowExecutionsRequest::default()
        };
        let mut first = BTreeMap::new();
        let mut is_cut = false;
        loop {
            let mut service = self.connection.workflow_service();
            let found = service.list_workflow_executions(wish.clone().into_request());
            let found = found.await?.into_inner();
            for info in found.executions {
                let id = info.execution.as_ref().map(|it| it.workflow_id.clone());
                first.insert(id.unwrap_or_default(), info);
                if first.len() > limit {
                    first.pop_last();
                    is_cut = true;
                }
            }
            if found.next_page_token.is_empty() {
                break;
            }
            wish.next_page_token = found.next_page_token;
        }
        let mut items = Vec::with_capacity(first.len());
        for info in first.into_values() {
            items.push(self.with_last_event(info).await?);
        }
        Ok((items, is_cut))
    }

    /// The history of all executions of a workflow, oldest first, and the ids of those executions.
    pub(super) async fn history(
        &self,
        id: &str,
    ) -> Result<(Vec<HistoryEntry>, Vec<String>), RpcStatus> {
        let mut parts = Vec::new();
        let mut run_ids = Vec::new();
        let mut run_id = match self.info(id).await?.and_then(|info| info.execution) {
            Some(current) => current.run_id,
            None => String::new(),
        };
        while !run_id.is_empty() && run_ids.len() < EXECUTIONS_MAX {
            let events = self.events(id, &run_id).await?;
            let Some(started) = events.first().and_then(started) else {
                // Temporal deleted it already.
                break;
            };
            let number = started
                .input
                .as_ref()
                .and_then(|input| input.payloads.first());
            let number = number
                .and_then(decoded::<Envelope>)
                .map_or(1, |envelope| envelope.execution);
            let before = started.continued_execution_run_id.clone();
            parts.push(
                events
                    .iter()
                    .map(|event| entry(number, event))
                    .collect::<Vec<_>>(),
            );
            run_ids.push(std::mem::replace(&mut run_id, before));
        }
        Ok((parts.into_iter().rev().flatten().collect(), run_ids))
    }

    async fn events(&self, id: &str, run_id: &str) -> Result<Vec<HistoryEvent>, RpcStatus> {
        let mut events = Vec::new();
        let mut wish = GetWorkflowExecutionHistoryRequest {
            namespace: self.namespace.clone(),
            execution: Some(execution(id, run_id)),
            maximum_page_size: EVENTS_PAGE,
            skip_archival: true,
            ..GetWorkflowExecutionHistoryRequest::default()
        };
        loop {
            let mut service = self.connection.workflow_service();
            let found = service
                .get_workflow_execution_history(wish.clone().into_request())
                .await;
            let Some(found) = known(found)? else {
                return Ok(events);
            };
            let found = found.into_inner();
            events.extend(found.history.into_iter().flat_map(|history| history.events));
            if found.next_page_token.is_empty() {
                return Ok(events);
            }
            wish.next_page_token = found.next_page_token;
        }
    }
}

/// An answer, or `None` when Temporal does not know the workflow.
fn known<T>(found: Result<T, RpcStatus>) -> Result<Option<T>, RpcStatus> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

fn status(info: &WorkflowExecutionInfo) -> Status {
    let state = match info.status() {
        State::Unspecified | State::Running | State::ContinuedAsNew | State::Paused => {
            StatusKind::Running
        }
        State::Completed => StatusKind::Completed,
        State::Failed | State::Canceled | State::Terminated | State::TimedOut => StatusKind::Failed,
    };
    let time = |seconds: i64, nanos: i32| Millis(seconds * 1_000 + i64::from(nanos) / 1_000_000);
    let started_at = info
        .start_time
        .as_ref()
        .map_or(Millis(0), |t| time(t.seconds, t.nanos));
    let ended_at = info.close_time.as_ref().map(|t| time(t.seconds, t.nanos));
    let (version, progress) = noted(info.memo.as_ref());
    Status {
        id: info
            .execution
            .as_ref()
            .map(|it| it.workflow_id.clone())
            .unwrap_or_default(),
        kind: info
            .r#type
            .as_ref()
            .map(|it| it.name.clone())
            .unwrap_or_default(),
        version,
        state,
        progress,
        started_at,
        updated_at: ended_at.unwrap_or(started_at),
    }
}

/// How an execution ended.
enum End {
    Outcome(Outcome),
    /// Continued as another execution.
    Next(String),
}

fn ended(attributes: Attributes) -> Option<End> {
    let failed = |message: &str| {
        let failure = host_workflows::Failure::engine(message);
        Some(End::Outcome(Outcome::Failed(failure)))
    };
    match attributes {
        Attributes::WorkflowExecutionCompletedEventAttributes(it) => {
            let output = it
                .result
                .as_ref()
                .and_then(|result| result.payloads.first());
            Some(End::Outcome(Outcome::Completed(text(output))))
        }
        Attributes::WorkflowExecutionFailedEventAttributes(it) => Some(End::Outcome(
            Outcome::Failed(read_failure(it.failure.as_ref())),
        )),
        Attributes::WorkflowExecutionContinuedAsNewEventAttributes(it) => {
            Some(End::Next(it.new_execution_run_id))
        }
        Attributes::WorkflowExecutionTimedOutEventAttributes(_) => failed(
            "Temporal ended the workflow because it exceeded a time limit; nothing was undone",
        ),
        Attributes::WorkflowExecutionCanceledEventAttributes(_) => {
            failed("Temporal ended the workflow as cancelled")
        }
        Attributes::WorkflowExecutionTerminatedEventAttributes(it) => failed(&format!(
            "a user terminated the workflow in Temporal, so nothing was undone: {}",
            it.reason
        )),
        _ => None,
    }
}

fn started(event: &HistoryEvent) -> Option<&WorkflowExecutionStartedEventAttributes> {
    match &event.attributes {
        Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) => Some(started),
        _ => None,
    }
}

fn at(event: &HistoryEvent) -> Millis {
    event.event_time.as_ref().map_or(Millis(0), |time| {
        Millis(time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000)
    })
}

fn entry(execution: u64, event: &HistoryEvent) -> HistoryEntry {
    HistoryEntry {
        execution,
        sequence: u64::try_from(event.event_id).unwrap_or(0),
        at: at(event),
        event: format!("{:?}", event.event_type()),
        detail: serde_json::to_string(&event.attributes).unwrap_or_default(),
    }
}
