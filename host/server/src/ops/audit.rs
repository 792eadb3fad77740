//! The audit log: who did what to which object, in the transaction that did it. The same transaction takes the request's key.

use host_domain::time::Millis;

use super::idempotency::claim;
use super::{OpError, Principal};
use host_store::{AuditEntry, Tx};

/// Records an act.
pub(crate) async fn audit(
    tx: &mut Tx,
    who: &Principal,
    action: &str,
    target: String,
    now: Millis,
) -> Result<(), OpError> {
    claim(tx, who, &target, now).await?;
    let entry = AuditEntry {
        // The database numbers it.
        seq: 0,
        at: now,
        actor: who.name.clone(),
        action: action.to_owned(),
        target,
        details: serde_json::Value::Null,
    };
    Ok(tx.append_audit(&entry).await?)
}
