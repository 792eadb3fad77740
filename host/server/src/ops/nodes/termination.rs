//! Terminating a node on request.

use host_domain::ids::NodeId;
use host_domain::operation::{Operation, OperationKind};
use host_store::retried;

use super::Nodes;
use crate::ops::node_removal::{
    AfterFailure, Removal, RemovalRequest, backs_up_keys, begin_removal,
};
use crate::ops::operations::{cancel_operation, cancel_operation_once};
use crate::ops::{OpError, Principal};

impl Nodes {
    /// Removes a node. If the node is still being provisioned, that operation is cancelled and undone instead. The remains of a
    /// failed node are removed once more: each step tolerates that its object is gone. With `backup_keys` the node's keys are
    /// backed up once more first; if that fails, the operation fails and the node is unchanged.
    pub async fn terminate(
        &self,
        who: &Principal,
        id: NodeId,
        if_version: Option<i64>,
        backup_keys: bool,
    ) -> Result<Operation, OpError> {
        if backup_keys && !self.has_key_backup {
            return Err(OpError::invalid(
                "/backup_keys",
                "can't be done, because no copies of keys are kept here; let an operator set `keys.backup.url`, or terminate the node without it",
            ));
        }
        retried(|| self.terminate_once(who, id, if_version, backup_keys)).await
    }

    async fn terminate_once(
        &self,
        who: &Principal,
        id: NodeId,
        if_version: Option<i64>,
        backup_keys: bool,
    ) -> Result<Operation, OpError> {
        let now = self.records.now();
        let mut tx = self.records.db.begin().await?;
        // Of two concurrent requests, the second finds what the first has started.
        tx.hold_node(id).await?;
        let node = tx
            .node(id)
            .await?
            .ok_or_else(|| OpError::not_found("node", id))?;
        if let Some(cancelled) = who.effect_on("operation") {
            drop(tx);
            return cancel_operation(&self.records, &self.engine, who, cancelled).await;
        }
        let is_repeat = who.effect_on("node") == Some(id);
        if !is_repeat && if_version.is_some_and(|version| version != node.state_version) {
            return Err(OpError::stale("node", id));
        }
        let after_failure = if is_repeat {
            AfterFailure::Keep
        } else {
            AfterFailure::Retry
        };
        let request = RemovalRequest {
            after_failure,
            backup_keys,
        };
        match begin_removal(&mut tx, who, &node, request, now).await? {
            Removal::InProgress(operation) if backup_keys && !backs_up_keys(&operation) => {
                Err(OpError::Conflict(format!(
                    "operation {} removes the node, or has removed it, without a last copy of its keys; leave `backup_keys` out",
                    operation.id
                )))
            }
            Removal::Undoing(operation) if backup_keys => Err(OpError::Conflict(format!(
                "the node is still being made by operation {}, and undoing that deletes its keys; wait for its end, or leave `backup_keys` out",
                operation.id
            ))),
            Removal::InProgress(operation) if operation.kind == OperationKind::TerminateNode => {
                Ok(operation)
            }
            Removal::InProgress(operation) => {
                drop(tx);
                cancel_operation_once(&self.records, &self.engine, who, operation.id).await
            }
            Removal::Migrating(operation) => Err(OpError::Conflict(format!(
                "the node is being moved by operation {}; cancel it or wait for its end, and terminate the node then",
                operation.id
            ))),
            Removal::Gone => {
                let state = node.condition.state;
                Err(OpError::Conflict(format!(
                    "the node is `{state}`: nothing of it is left to remove"
                )))
            }
            Removal::Started(operation) => {
                tx.commit().await?;
                self.engine.begin(&operation).await;
                Ok(operation)
            }
            Removal::Undoing(operation) => {
                tx.commit().await?;
                self.engine.stop(who, operation).await
            }
        }
    }
}

#[cfg(test)]
mod tests;
