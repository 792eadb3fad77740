//! Escalates what nobody took: an open warning becomes critical after a quarter of an hour.

use std::time::Duration;

use host_domain::incident::{IncidentEvent, IncidentState, Severity};

use crate::app::App;
use crate::ops::{IncidentFilter, OpError, step_incident};

/// How long a warning may stay open (design: domain.md, Incident).
const WARNING_MAX: Duration = Duration::from_mins(15);
/// Incidents that are looked at in one round.
const PAGE: u32 = 200;

/// One round over open warnings.
pub(crate) async fn round(app: App) -> Result<(), OpError> {
    let now = app.clock.now();
    let filter = IncidentFilter {
        state: Some(IncidentState::Open),
        severity: Some(Severity::Warning),
        ..IncidentFilter::default()
    };
    let mut before = None;
    loop {
        let incidents = app.db.list_incidents(&filter, before, PAGE).await?;
        let Some(last) = incidents.last() else {
            return Ok(());
        };
        before = Some(last.id);
        for incident in incidents {
            if now.since(incident.updated_at) < WARNING_MAX {
                continue;
            }
            let mut tx = app.db.begin().await?;
            let raised = host_domain::incident::Incident {
                severity: Severity::Critical,
                ..incident
            };
            step_incident(
                &mut tx,
                &app.catalogue(),
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
