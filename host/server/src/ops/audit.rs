//! The audit log: who did what to which object, in the transaction that did it.

use host_domain::time::Millis;

use super::OpError;
use crate::store::{AuditEntry, Tx};

/// Records an act.
pub(crate) async fn audit(
    tx: &mut Tx,
    actor: &str,
    action: &str,
    target: String,
    now: Millis,
) -> Result<(), OpError> {
    let entry = AuditEntry {
        // The database numbers it.
        seq: 0,
        at: now,
        actor: actor.to_owned(),
        action: action.to_owned(),
        target,
        details: serde_json::Value::Null,
    };
    Ok(tx.append_audit(&entry).await?)
}
