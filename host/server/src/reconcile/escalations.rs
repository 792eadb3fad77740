//! Escalates incidents that nobody acknowledged: an open warning becomes critical after a quarter of an hour.

use std::time::Duration;

use host_domain::incident::{IncidentEvent, IncidentState, Severity};

use super::loops::{Loop, Pace};
use crate::ops::{Chains, IncidentFilter, OpError, Records, step_incident};
use crate::services::Services;

/// How long a warning may stay open.
const WARNING_MAX: Duration = Duration::from_mins(15);
/// Incidents that are read at once.
const PAGE: u32 = 200;

/// Escalates open warnings, on the leader.
pub(super) fn escalations(services: &Services) -> Loop {
    let chains = services.chains.clone();
    let pace = Pace::Every(Duration::from_secs(30));
    Loop::leader("escalations", pace, move |records| {
        let chains = chains.clone();
        async move { round(&records, &chains).await }
    })
}

/// One round over open warnings.
pub(super) async fn round(records: &Records, chains: &Chains) -> Result<(), OpError> {
    let now = records.now();
    let filter = IncidentFilter {
        state: Some(IncidentState::Open),
        severity: Some(Severity::Warning),
        ..IncidentFilter::default()
    };
    let mut before = None;
    loop {
        let incidents = records.db.list_incidents(&filter, before, PAGE).await?;
        let Some(last) = incidents.last() else {
            return Ok(());
        };
        before = Some(last.id);
        for incident in incidents {
            if now.since(incident.updated_at) < WARNING_MAX {
                continue;
            }
            let mut tx = records.db.begin().await?;
            let raised = host_domain::incident::Incident {
                severity: Severity::Critical,
                ..incident
            };
            step_incident(
                &mut tx,
                &chains.catalogue(),
                raised,
                IncidentEvent::Escalated,
                "host",
                now,
            )
            .await?;
            tx.commit().await?;
        }
    }
}
