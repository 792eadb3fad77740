//! Incidents: one unresolved row per key, changed by compare-and-swap, with a history.

use std::collections::BTreeMap;

use host_domain::ids::IncidentId;
use host_domain::incident::{
    Incident, IncidentEvent, IncidentKey, IncidentState, Severity, SubjectKind,
};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, json, sql};

/// A filter of incidents; absent fields match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncidentFilter {
    /// One state.
    pub state: Option<IncidentState>,
    /// Only unresolved incidents.
    pub unresolved: bool,
    /// One severity.
    pub severity: Option<Severity>,
    /// One category.
    pub category: Option<String>,
    /// One subject: a node id, a machine id, or a plugin's name.
    pub subject_id: Option<String>,
}

/// One line of an incident's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentHistoryEntry {
    /// UUID v7.
    pub id: String,
    /// The incident.
    pub incident_id: IncidentId,
    /// What happened.
    pub event: IncidentEvent,
    /// Who or what caused it.
    pub actor: String,
    /// When.
    pub at: Millis,
    /// For people.
    pub message: String,
}

impl FromRow for Incident {
    const TABLE: &'static str = "incidents";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            id: row.parsed("id")?,
            key: IncidentKey {
                subject_kind: row.named("subject_kind", SubjectKind::parse)?,
                subject_id: row.text("subject_id")?,
                category: row.text("category")?,
            },
            subject_name: row.text("subject_name")?,
            labels: row.json::<BTreeMap<String, String>>("labels")?,
            severity: row.named("severity", Severity::parse)?,
            state: row.named("state", IncidentState::parse)?,
            title: row.text("title")?,
            reasons: row.json("reasons")?,
            occurrences: row.count("occurrences")?,
            opened_at: row.millis("opened_at")?,
            updated_at: row.millis("updated_at")?,
            acknowledged_by: row.text_opt("acknowledged_by")?,
            resolved_at: row.millis_opt("resolved_at")?,
            version: row.int("version")?,
        })
    }
}

impl FromRow for IncidentHistoryEntry {
    const TABLE: &'static str = "incident_events";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            id: row.text("id")?,
            incident_id: row.parsed("incident_id")?,
            event: row.named("kind", IncidentEvent::parse)?,
            actor: row.text("actor")?,
            at: row.millis("at")?,
            message: row.text("message")?,
        })
    }
}

impl Reader {
    /// An incident by its id.
    pub async fn incident(&self, id: IncidentId) -> Result<Option<Incident>, StoreError> {
        const SQL: &str = "SELECT * FROM incidents WHERE id = $1";
        self.first(sql(SQL).bind(id)).await
    }

    /// The incident of this key that a cause concerns: the unresolved one, or else the one resolved last.
    pub async fn newest_incident(&self, key: &IncidentKey) -> Result<Option<Incident>, StoreError> {
        const SQL: &str = "SELECT * FROM incidents
            WHERE subject_kind = $1 AND subject_id = $2 AND category = $3
            ORDER BY CASE WHEN state = 'resolved' THEN 1 ELSE 0 END, resolved_at DESC, id DESC LIMIT 1";
        let stmt = sql(SQL)
            .bind(key.subject_kind.as_str())
            .bind(&key.subject_id)
            .bind(&key.category);
        self.first(stmt).await
    }

    /// Incidents, newest first, before `before`.
    pub async fn list_incidents(
        &self,
        filter: &IncidentFilter,
        before: Option<IncidentId>,
        limit: u32,
    ) -> Result<Vec<Incident>, StoreError> {
        const SQL: &str = "SELECT * FROM incidents
            WHERE ($1 IS NULL OR state = $1) AND ($2 = 0 OR state <> 'resolved')
              AND ($3 IS NULL OR severity = $3) AND ($4 IS NULL OR category = $4)
              AND ($5 IS NULL OR subject_id = $5) AND ($6 IS NULL OR id < $6)
            ORDER BY id DESC LIMIT $7";
        let stmt = sql(SQL)
            .bind(filter.state.map(IncidentState::as_str))
            .bind(filter.unresolved)
            .bind(filter.severity.map(Severity::as_str))
            .bind(filter.category.as_deref())
            .bind(filter.subject_id.as_deref())
            .bind(before)
            .bind(limit);
        self.all(stmt).await
    }

    /// An incident's history, oldest first, after `after`.
    pub async fn incident_events(
        &self,
        incident: IncidentId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<IncidentHistoryEntry>, StoreError> {
        const SQL: &str =
            "SELECT * FROM incident_events WHERE incident_id = $1 AND ($2 IS NULL OR id > $2)
            ORDER BY id LIMIT $3";
        self.all(sql(SQL).bind(incident).bind(after).bind(limit))
            .await
    }
}

impl Tx {
    /// Opens an incident. `Conflict` when the key has an unresolved one.
    pub async fn insert_incident(&mut self, incident: &Incident) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO incidents (id, subject_kind, subject_id, category, subject_name, labels,
                severity, state, title, reasons, occurrences, opened_at, updated_at, acknowledged_by,
                resolved_at, version)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
        let stmt = sql(SQL)
            .bind(incident.id)
            .bind(incident.key.subject_kind.as_str())
            .bind(&incident.key.subject_id)
            .bind(&incident.key.category)
            .bind(&incident.subject_name)
            .bind(json(&incident.labels))
            .bind(incident.severity.as_str())
            .bind(incident.state.as_str())
            .bind(&incident.title)
            .bind(json(&incident.reasons))
            .bind(incident.occurrences)
            .bind(incident.opened_at)
            .bind(incident.updated_at)
            .bind(incident.acknowledged_by.as_deref())
            .bind(incident.resolved_at)
            .bind(incident.version);
        self.execute(stmt)
            .await
            .map_err(|error| error.taken("an unresolved incident of this key"))?;
        Ok(())
    }

    /// Updates an incident unless it changed since `incident.version`, and returns the new version. Its key, subject,
    /// labels and start never change.
    pub async fn update_incident(
        &mut self,
        incident: &Incident,
    ) -> Result<Option<i64>, StoreError> {
        const SQL: &str = "UPDATE incidents SET severity = $1, state = $2, title = $3, reasons = $4,
                occurrences = $5, updated_at = $6, acknowledged_by = $7, resolved_at = $8, version = version + 1
            WHERE id = $9 AND version = $10 RETURNING version AS number";
        let stmt = sql(SQL)
            .bind(incident.severity.as_str())
            .bind(incident.state.as_str())
            .bind(&incident.title)
            .bind(json(&incident.reasons))
            .bind(incident.occurrences)
            .bind(incident.updated_at)
            .bind(incident.acknowledged_by.as_deref())
            .bind(incident.resolved_at)
            .bind(incident.id)
            .bind(incident.version);
        self.number(stmt)
            .await
            .map_err(|error| error.taken("an unresolved incident of this key"))
    }

    /// Appends a line to an incident's history; `false` when the id exists already.
    pub async fn append_incident_event(
        &mut self,
        event: &IncidentHistoryEntry,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO incident_events (id, incident_id, at, kind, actor, message)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING";
        let stmt = sql(SQL)
            .bind(&event.id)
            .bind(event.incident_id)
            .bind(event.at)
            .bind(event.event.as_str())
            .bind(&event.actor)
            .bind(&event.message);
        Ok(self.execute(stmt).await? == 1)
    }
}
