//! The audit log: who did what to which object, in the transaction that did it. The same transaction takes the request's key.

use host_domain::time::Millis;

use super::idempotency::claim;
use super::records::Records;
use super::{OpError, Page, PageRequest, Principal};
use host_store::Tx;

pub(crate) use host_store::{AuditEntry, AuditFilter};

/// Records an act.
pub(crate) async fn audit(
    tx: &mut Tx,
    who: &Principal,
    action: &str,
    object: String,
    now: Millis,
) -> Result<(), OpError> {
    audit_with(tx, who, action, object, serde_json::Value::Null, now).await
}

/// Records an act and more about it, which must not contain a secret.
pub(crate) async fn audit_with(
    tx: &mut Tx,
    who: &Principal,
    action: &str,
    object: String,
    details: serde_json::Value,
    now: Millis,
) -> Result<(), OpError> {
    claim(tx, who, &object, now).await?;
    let entry = AuditEntry {
        // The database numbers it.
        seq: 0,
        at: now,
        actor: who.name.clone(),
        action: action.to_owned(),
        object,
        request_id: who.request_id.clone(),
        details,
    };
    Ok(tx.append_audit(&entry).await?)
}

/// Reads the audit log.
#[derive(Clone)]
pub struct AuditLog {
    records: Records,
}

impl AuditLog {
    pub(crate) fn new(records: Records) -> Self {
        Self { records }
    }

    /// Acts, newest first.
    pub(crate) async fn list(
        &self,
        filter: &AuditFilter,
        page: &PageRequest,
    ) -> Result<Page<AuditEntry>, OpError> {
        let (db, after) = (&self.records.db, page.after()?);
        let rows = db.list_audit(filter, after, page.rows()).await?;
        Ok(Page::cut(rows, page, |entry| entry.seq.to_string()))
    }
}
