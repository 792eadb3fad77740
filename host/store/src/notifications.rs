//! Notifications: collected per group until they are due, claimed with a lease, and stored with their result.

use std::collections::BTreeMap;
use std::time::Duration;

use host_domain::ids::{IncidentId, NotificationId};
use host_domain::notification::{DeliveryState, Notification, NotificationStatus};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, Stmt, Value, sql};

impl FromRow for Notification {
    const TABLE: &'static str = "notifications";

    /// Without its incidents, which are rows of another table.
    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            id: row.parsed("id")?,
            route: row.text("route")?,
            receiver: row.text("receiver")?,
            group_key: row.text("group_key")?,
            status: row.named("status", NotificationStatus::parse)?,
            incident_ids: Vec::new(),
            state: row.named("state", DeliveryState::parse)?,
            due_at: row.millis("due_at")?,
            attempts: row.count("attempts")?,
            outcome: row.text_opt("outcome")?,
            created_at: row.millis("created_at")?,
            finished_at: row.millis_opt("finished_at")?,
        })
    }
}

struct NotificationKey(NotificationId);

impl FromRow for NotificationKey {
    const TABLE: &'static str = "notifications";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        row.parsed("id").map(Self)
    }
}

struct Link(NotificationId, IncidentId);

impl FromRow for Link {
    const TABLE: &'static str = "notification_incidents";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self(
            row.parsed("notification_id")?,
            row.parsed("incident_id")?,
        ))
    }
}

impl Reader {
    /// Notifications about an incident, newest first, before `before`.
    pub async fn notifications_of(
        &self,
        incident: IncidentId,
        before: Option<NotificationId>,
        limit: u32,
    ) -> Result<Vec<Notification>, StoreError> {
        const SQL: &str = "SELECT n.* FROM notifications n
                JOIN notification_incidents l ON l.notification_id = n.id
            WHERE l.incident_id = $1 AND ($2 IS NULL OR n.id < $2) ORDER BY n.id DESC LIMIT $3";
        let found = self
            .all(sql(SQL).bind(incident).bind(before).bind(limit))
            .await?;
        self.with_incidents(LINKS, found).await
    }

    /// The newest delivered notification of each group of a route, if it is older than `before` and an incident of
    /// the group is unresolved. `incident_ids` are all unresolved incidents of the group's notifications.
    pub async fn due_repeats(
        &self,
        route: &str,
        before: Millis,
        limit: u32,
    ) -> Result<Vec<Notification>, StoreError> {
        const SQL: &str = "SELECT n.* FROM notifications n
            WHERE n.route = $1 AND n.status = 'firing' AND n.state = 'delivered' AND n.finished_at <= $2
              AND NOT EXISTS (SELECT 1 FROM notifications later WHERE later.route = n.route
                AND later.group_key = n.group_key AND later.status = 'firing' AND later.id > n.id)
              AND EXISTS (SELECT 1 FROM notifications m
                JOIN notification_incidents l ON l.notification_id = m.id JOIN incidents i ON i.id = l.incident_id
                WHERE m.route = n.route AND m.group_key = n.group_key AND m.status = 'firing' AND i.state <> 'resolved')
            ORDER BY n.id LIMIT $3";
        const UNRESOLVED: &str = "SELECT DISTINCT n.id AS notification_id, i.id AS incident_id FROM notifications n
                JOIN notifications m ON m.route = n.route AND m.group_key = n.group_key AND m.status = 'firing'
                JOIN notification_incidents l ON l.notification_id = m.id JOIN incidents i ON i.id = l.incident_id
            WHERE i.state <> 'resolved' AND n.id IN (VALUES {}) ORDER BY notification_id, incident_id";
        let found = self
            .all(sql(SQL).bind(route).bind(before).bind(limit))
            .await?;
        self.with_incidents(UNRESOLVED, found).await
    }

    async fn with_incidents(
        &self,
        links: &'static str,
        mut found: Vec<Notification>,
    ) -> Result<Vec<Notification>, StoreError> {
        if found.is_empty() {
            return Ok(found);
        }
        let stmt = sql(links).list(found.iter().map(|one| vec![one.id.into()]));
        let mut incidents: BTreeMap<NotificationId, Vec<IncidentId>> = BTreeMap::new();
        for Link(notification, incident) in self.all(stmt).await? {
            incidents.entry(notification).or_default().push(incident);
        }
        for one in &mut found {
            one.incident_ids = incidents.remove(&one.id).unwrap_or_default();
        }
        Ok(found)
    }
}

const LINKS: &str = "SELECT notification_id, incident_id FROM notification_incidents
    WHERE notification_id IN (VALUES {}) ORDER BY notification_id, incident_id";

impl Tx {
    /// Adds the incidents to the pending notification of the same route, group and status that still collects, or
    /// creates one. Returns its id.
    pub async fn upsert_pending_notification(
        &mut self,
        wanted: &Notification,
    ) -> Result<NotificationId, StoreError> {
        const SQL: &str = "INSERT INTO notifications (id, route, receiver, group_key, status, state, sealed, due_at,
                claimed_until, attempts, created_at)
            VALUES ($1, $2, $3, $4, $5, 'pending', 0, $6, 0, 0, $7)
            ON CONFLICT (route, group_key, status) WHERE sealed = 0 DO UPDATE SET receiver = excluded.receiver
            RETURNING id";
        const LINK: &str =
            "INSERT INTO notification_incidents (notification_id, incident_id) VALUES {}
            ON CONFLICT (notification_id, incident_id) DO NOTHING";
        let stmt = sql(SQL)
            .bind(wanted.id)
            .bind(&wanted.route)
            .bind(&wanted.receiver)
            .bind(&wanted.group_key)
            .bind(wanted.status.as_str())
            .bind(wanted.due_at)
            .bind(wanted.created_at);
        let id = self
            .first::<NotificationKey>(stmt)
            .await?
            .map_or(wanted.id, |NotificationKey(id)| id);
        if !wanted.incident_ids.is_empty() {
            let links = wanted
                .incident_ids
                .iter()
                .map(|one| vec![id.into(), Value::from(*one)]);
            self.execute(sql(LINK).list(links)).await?;
        }
        Ok(id)
    }

    /// Removes an incident from notifications that still collect, and deletes empty ones. Returns how many it was
    /// removed from: if not zero, those receivers will not be notified of it.
    pub async fn remove_from_pending(
        &mut self,
        incident: IncidentId,
        status: NotificationStatus,
    ) -> Result<u64, StoreError> {
        // The update locks the notifications, so that nobody adds to one between the read and the deletion.
        const LOCK: &str =
            "UPDATE notifications SET receiver = receiver WHERE status = $1 AND sealed = 0
              AND id IN (SELECT notification_id FROM notification_incidents WHERE incident_id = $2)
            RETURNING id";
        const UNLINK: &str = "DELETE FROM notification_incidents
            WHERE incident_id = $1 AND notification_id IN (VALUES {})";
        const REMOVE: &str = "DELETE FROM notifications WHERE id IN (VALUES {})
            AND NOT EXISTS (SELECT 1 FROM notification_incidents l WHERE l.notification_id = notifications.id)";
        let stmt = sql(LOCK).bind(status.as_str()).bind(incident);
        let locked: Vec<NotificationKey> = self.all(stmt).await?;
        if locked.is_empty() {
            return Ok(0);
        }
        let ids =
            |stmt: Stmt| stmt.list(locked.iter().map(|NotificationKey(id)| vec![(*id).into()]));
        let n_removed = self.execute(ids(sql(UNLINK).bind(incident))).await?;
        self.execute(ids(sql(REMOVE))).await?;
        Ok(n_removed)
    }

    /// Claims due notifications until `now + lease`; each claim counts as an attempt. A group's notifications keep
    /// their order: the end of a problem never overtakes its start.
    pub async fn claim_notifications(
        &mut self,
        now: Millis,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Notification>, StoreError> {
        const SQL: &str = "UPDATE notifications SET claimed_until = $1, sealed = 1, attempts = attempts + 1
            WHERE state = 'pending' AND claimed_until <= $2 AND id IN (
                SELECT n.id FROM notifications n
                WHERE n.state = 'pending' AND n.due_at <= $2 AND n.claimed_until <= $2 AND NOT EXISTS (
                    SELECT 1 FROM notifications e WHERE e.route = n.route AND e.group_key = n.group_key
                        AND e.state = 'pending' AND e.id < n.id)
                ORDER BY n.due_at, n.id LIMIT $3)
            RETURNING *";
        let stmt = sql(SQL).bind(now.plus(lease)).bind(now).bind(limit);
        let mut claimed: Vec<Notification> = self.all(stmt).await?;
        claimed.sort_by_key(|one| (one.due_at, one.id));
        self.with_incidents(LINKS, claimed).await
    }

    /// Marks a notification as delivered or failed; `false` when it was marked already.
    pub async fn finish_notification(
        &mut self,
        id: NotificationId,
        state: DeliveryState,
        outcome: &str,
        at: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str =
            "UPDATE notifications SET state = $1, outcome = $2, finished_at = $3, sealed = 1,
                claimed_until = 0
            WHERE id = $4 AND state = 'pending'";
        let stmt = sql(SQL)
            .bind(state.as_str())
            .bind(outcome)
            .bind(at)
            .bind(id);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Records a failed attempt: the notification is due again at `at`. `false` when it is finished.
    pub async fn retry_notification(
        &mut self,
        id: NotificationId,
        at: Millis,
        outcome: &str,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE notifications SET due_at = $1, outcome = $2, claimed_until = 0
            WHERE id = $3 AND state = 'pending'";
        Ok(self
            .execute(sql(SQL).bind(at).bind(outcome).bind(id))
            .await?
            == 1)
    }

    /// Postpones a claimed notification because of its route's rate limit; the claim does not count as an attempt.
    pub async fn postpone_notification(
        &mut self,
        id: NotificationId,
        at: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE notifications SET due_at = $1, claimed_until = 0,
                attempts = CASE WHEN attempts > 0 THEN attempts - 1 ELSE 0 END
            WHERE id = $2 AND state = 'pending'";
        Ok(self.execute(sql(SQL).bind(at).bind(id)).await? == 1)
    }
}
