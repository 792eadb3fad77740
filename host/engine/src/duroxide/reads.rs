//! Reads workflows from duroxide in the types of the workflow port.
//!
//! Times come from the history, because duroxide stores a workflow's times as text that its own reader reads as 0.

use duroxide::providers::{Provider, ProviderError};
use duroxide::{Event, EventKind};
use host_domain::time::Millis;
use host_workflows::{HistoryEntry, Outcome, Page, PageRequest, Status, StatusKind};

use super::control::failure;
use super::provider::SerialProvider;

/// The maximum page size.
const PAGE_MAX: usize = 500;

/// The status of a workflow.
pub(super) async fn status(
    provider: &SerialProvider,
    id: &str,
) -> Result<Option<Status>, ProviderError> {
    let events = provider.read(id).await?;
    let (Some(first), Some(last)) = (events.first(), events.last()) else {
        return Ok(None);
    };
    let progress = provider
        .get_custom_status(id, 0)
        .await?
        .and_then(|(status, _)| status);
    let (kind, version) = events
        .iter()
        .find_map(|event| match &event.kind {
            EventKind::OrchestrationStarted { name, version, .. } => {
                Some((name.clone(), version.clone()))
            }
            _ => None,
        })
        .unwrap_or_default();
    Ok(Some(Status {
        id: id.to_owned(),
        kind,
        version,
        state: match ended(&events) {
            Outcome::Running => StatusKind::Running,
            Outcome::Completed(_) => StatusKind::Completed,
            Outcome::Failed(_) => StatusKind::Failed,
        },
        progress,
        started_at: millis(first.timestamp_ms),
        updated_at: millis(last.timestamp_ms),
    }))
}

/// How a workflow ended, if it ended; `None` when the id is unknown.
pub(super) async fn outcome(
    provider: &SerialProvider,
    id: &str,
) -> Result<Option<Outcome>, ProviderError> {
    let events = provider.read(id).await?;
    Ok((!events.is_empty()).then(|| ended(&events)))
}

/// One page of workflows by id.
pub(super) async fn list(
    provider: &SerialProvider,
    page: &PageRequest,
) -> Result<Page, ProviderError> {
    let mut ids = match page.state {
        None => provider.list_instances().await?,
        Some(StatusKind::Running) => provider.list_instances_by_status("Running").await?,
        Some(StatusKind::Completed) => provider.list_instances_by_status("Completed").await?,
        Some(StatusKind::Failed) => provider.list_instances_by_status("Failed").await?,
    };
    ids.sort_unstable();
    let limit = page.limit.clamp(1, PAGE_MAX);
    let from = page
        .after
        .as_ref()
        .map_or(0, |after| ids.partition_point(|id| id <= after));
    let rest = ids.len() - from;
    let mut items = Vec::new();
    for id in ids.into_iter().skip(from).take(limit) {
        items.extend(status(provider, &id).await?);
    }
    let next = if rest > limit {
        items.last().map(|item| item.id.clone())
    } else {
        None
    };
    Ok(Page { items, next })
}

/// The history of all executions.
pub(super) async fn history(
    provider: &SerialProvider,
    id: &str,
) -> Result<Vec<HistoryEntry>, ProviderError> {
    let mut entries = Vec::new();
    for execution in provider.list_executions(id).await? {
        for event in provider.read_with_execution(id, execution).await? {
            entries.push(entry(execution, &event));
        }
    }
    Ok(entries)
}

fn entry(execution: u64, event: &Event) -> HistoryEntry {
    let detail = serde_json::to_value(&event.kind).unwrap_or_default();
    HistoryEntry {
        execution,
        sequence: event.event_id,
        at: millis(event.timestamp_ms),
        event: detail["type"].as_str().unwrap_or_default().to_owned(),
        detail: detail.to_string(),
    }
}

fn ended(events: &[Event]) -> Outcome {
    let end = events.iter().rev().find_map(|event| match &event.kind {
        EventKind::OrchestrationCompleted { output } => Some(Outcome::Completed(output.clone())),
        EventKind::OrchestrationFailed { details } => {
            Some(Outcome::Failed(failure(&details.display_message())))
        }
        _ => None,
    });
    end.unwrap_or(Outcome::Running)
}

fn millis(ms: u64) -> Millis {
    Millis(i64::try_from(ms).unwrap_or(i64::MAX))
}
