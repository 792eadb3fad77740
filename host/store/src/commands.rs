//! Commands to agents: ordered per node, with states that only move forward and end once.

use host_domain::command::{Command, CommandKind, CommandOutcome, CommandState};
use host_domain::ids::{AgentId, CommandId, NodeId};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, json, json_opt, sql};

impl FromRow for Command {
    const TABLE: &'static str = "commands";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            id: row.parsed("id")?,
            node_id: row.parsed("node_id")?,
            agent_id: row.parsed("agent_id")?,
            kind: row.named("kind", CommandKind::parse)?,
            payload: row.bytes("payload")?,
            state: row.named("state", CommandState::parse)?,
            result: row.json_opt::<CommandOutcome>("result")?,
            workflow_id: row.text_opt("workflow_id")?,
            mailbox: row.text_opt("mailbox")?,
            deadline: row.millis("deadline")?,
            created_at: row.millis("created_at")?,
            updated_at: row.millis("updated_at")?,
        })
    }
}

impl Reader {
    /// A command by its id.
    pub async fn command(&self, id: CommandId) -> Result<Option<Command>, StoreError> {
        const SQL: &str = "SELECT * FROM commands WHERE id = $1";
        self.first(sql(SQL).bind(id)).await
    }

    /// Commands that an agent has not acknowledged, in queue order.
    pub async fn pending_commands(
        &self,
        agent: AgentId,
        limit: u32,
    ) -> Result<Vec<Command>, StoreError> {
        const SQL: &str =
            "SELECT * FROM commands WHERE agent_id = $1 AND state IN ('queued', 'delivered')
            ORDER BY seq LIMIT $2";
        self.all(sql(SQL).bind(agent).bind(limit)).await
    }

    /// How many commands of a node are unfinished, for the limit of its queue.
    pub async fn n_unfinished_commands(&self, node: NodeId) -> Result<i64, StoreError> {
        const SQL: &str = "SELECT count(*) AS number FROM commands
            WHERE node_id = $1 AND state IN ('queued', 'delivered', 'accepted')";
        Ok(self.number(sql(SQL).bind(node)).await?.unwrap_or(0))
    }

    /// A node's commands, newest first, before `before`.
    pub async fn list_commands(
        &self,
        node: NodeId,
        before: Option<CommandId>,
        limit: u32,
    ) -> Result<Vec<Command>, StoreError> {
        const SQL: &str = "SELECT * FROM commands WHERE node_id = $1
              AND ($2 IS NULL OR seq < (SELECT seq FROM commands WHERE id = $2))
            ORDER BY seq DESC LIMIT $3";
        self.all(sql(SQL).bind(node).bind(before).bind(limit)).await
    }
}

impl Tx {
    /// Queues a command; `false` when a repeated workflow step queued it already.
    pub async fn insert_command(&mut self, command: &Command) -> Result<bool, StoreError> {
        const SQL: &str =
            "INSERT INTO commands (id, node_id, agent_id, kind, payload, state, result,
                workflow_id, mailbox, deadline, created_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id) DO NOTHING";
        let stmt = sql(SQL)
            .bind(command.id)
            .bind(command.node_id)
            .bind(command.agent_id)
            .bind(command.kind.as_str())
            .bind(command.payload.as_slice())
            .bind(command.state.as_str())
            .bind(json_opt(command.result.as_ref()))
            .bind(command.workflow_id.as_deref())
            .bind(command.mailbox.as_deref())
            .bind(command.deadline)
            .bind(command.created_at)
            .bind(command.updated_at);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Marks a command as sent; `false` when it was sent already.
    pub async fn mark_command_delivered(
        &mut self,
        id: CommandId,
        at: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE commands SET state = 'delivered', updated_at = $1 WHERE id = $2 AND state = 'queued'";
        Ok(self.execute(sql(SQL).bind(at).bind(id)).await? == 1)
    }

    /// Marks a command as accepted into its agent's journal; `false` when it was accepted already or is finished.
    pub async fn mark_command_accepted(
        &mut self,
        id: CommandId,
        at: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE commands SET state = 'accepted', updated_at = $1
            WHERE id = $2 AND state IN ('queued', 'delivered')";
        Ok(self.execute(sql(SQL).bind(at).bind(id)).await? == 1)
    }

    /// Deletes a command that was not sent; `false` when it was sent.
    pub async fn withdraw_command(&mut self, id: CommandId) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM commands WHERE id = $1 AND state = 'queued'";
        Ok(self.execute(sql(SQL).bind(id)).await? == 1)
    }

    /// Stores an agent's final result once; `false` when there is one already or no such command.
    pub async fn finish_command(
        &mut self,
        id: CommandId,
        state: CommandState,
        outcome: &CommandOutcome,
        at: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE commands SET state = $1, result = $2, updated_at = $3
            WHERE id = $4 AND state IN ('queued', 'delivered', 'accepted')";
        let stmt = sql(SQL)
            .bind(state.as_str())
            .bind(json(outcome))
            .bind(at)
            .bind(id);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Moves an agent's unfinished commands to its successor for redelivery, and returns their number.
    pub async fn hand_over_commands(
        &mut self,
        from: AgentId,
        to: AgentId,
        at: Millis,
    ) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE commands SET agent_id = $1, state = 'queued', updated_at = $2
            WHERE agent_id = $3 AND state IN ('queued', 'delivered', 'accepted')";
        self.execute(sql(SQL).bind(to).bind(at).bind(from)).await
    }
}
