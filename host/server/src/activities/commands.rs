//! Commands to agents: queued once under an id of the workflow, polled, and withdrawn.

use std::collections::BTreeMap;

use host_domain::command::{Command, CommandKind, CommandState as State};
use host_domain::config::render_recipe;
use host_domain::config::step::{RenderedStep, TemplateValues};
use host_domain::ids::{AgentId, NodeId};
use host_domain::node::Node;
use host_gateway::{Order, encode_command};
use host_workflows::node_activities::{
    CommandAction, CommandRef, CommandRequest, CommandState, CommandStatus, SendCommand, Sent,
    WithdrawCommand,
};
use host_workflows::{Activities, ActivityContext};

use super::activity_error;
use super::nodes::{NodeWork, read_in};
use super::on;
use crate::catalogue::Catalogue;
use crate::ops::{OpError, Records};
use crate::services::Services;
use host_store::{Tx, retried};

/// Commands of a node that may wait for their end at once.
const QUEUE_MAX: i64 = 100;
/// How many of a node's newest commands are searched for its preparation.
const COMMANDS_MAX: u32 = 100;

pub(super) fn register(activities: &mut Activities, services: &Services, records: &Records) {
    let work = NodeWork::of(services, records);
    on(activities, &work, CommandStatus, status);
    on(activities, &work, WithdrawCommand, withdraw);
    activities.on(SendCommand, move |ctx: ActivityContext, request| {
        let work = work.clone();
        async move {
            let send = || send(&work, ctx.workflow_id(), &request);
            retried(send).await.map_err(activity_error)
        }
    });
}

/// Queues a command; a command that is queued already is unchanged.
async fn send(
    work: &NodeWork,
    workflow_id: &str,
    request: &CommandRequest,
) -> Result<Sent, OpError> {
    let now = work.records.now();
    let mut tx = work.records.db.begin().await?;
    if tx.command(request.command_id).await?.is_some() {
        return Ok(Sent::Queued);
    }
    let node = read_in(&mut tx, request.node).await?;
    let agent = match request.machine_id.or(node.placement.machine_id) {
        Some(machine) => tx.agent_of_machine(machine).await?,
        None => None,
    };
    let Some(agent) = agent else {
        return Ok(Sent::NoAgent);
    };
    if tx.n_unfinished_commands(node.id).await? >= QUEUE_MAX {
        return Err(OpError::Conflict(format!(
            "{QUEUE_MAX} commands of the node have not ended yet; check that its agent is connected and runs them, then try again"
        )));
    }
    let deadline = now.plus(request.limit);
    let order = order_for(
        &work.chains.catalogue(),
        &mut tx,
        &node,
        (agent.id, request.action),
    )
    .await?;
    let payload = encode_command(request.command_id, node.id, deadline, &order)
        .map_err(|error| OpError::Conflict(error.to_string()))?;
    tx.insert_command(&Command {
        id: request.command_id,
        node_id: node.id,
        agent_id: agent.id,
        kind: order.kind(),
        payload,
        state: State::Queued,
        result: None,
        workflow_id: Some(workflow_id.to_owned()),
        mailbox: Some(request.mailbox.clone()),
        deadline,
        created_at: now,
        updated_at: now,
    })
    .await?;
    tx.commit().await?;
    work.agents.wake(agent.id);
    Ok(Sent::Queued)
}

/// The state of a command.
async fn status(work: NodeWork, command: CommandRef) -> Result<CommandState, OpError> {
    let row = work.records.db.command(command.command_id).await?;
    let row = row.ok_or_else(|| OpError::not_found("command", command.command_id))?;
    let outcome = row.result.unwrap_or_default();
    let (step, error, output) = (outcome.step, outcome.error, outcome.output);
    Ok(match row.state {
        State::Queued | State::Delivered | State::Accepted => CommandState::Waiting,
        State::Succeeded => CommandState::Succeeded,
        State::Failed => CommandState::Failed {
            step,
            error,
            output,
        },
        State::Stuck => CommandState::Stuck {
            step,
            error,
            output,
        },
    })
}

/// Withdraws a command that no agent has received.
async fn withdraw(work: NodeWork, command: CommandRef) -> Result<(), OpError> {
    let mut tx = work.records.db.begin().await?;
    tx.withdraw_command(command.command_id).await?;
    tx.commit().await?;
    Ok(())
}

async fn order_for(
    catalogue: &Catalogue,
    tx: &mut Tx,
    node: &Node,
    (agent, action): (AgentId, CommandAction),
) -> Result<Order, OpError> {
    match action {
        CommandAction::Stop => Ok(Order::Stop),
        CommandAction::Uninstall => Ok(Order::Uninstall),
        CommandAction::Prepare => {
            let ports = chain_of(catalogue, node)?.runtime.ports.iter();
            Ok(Order::Prepare {
                chain: node.chain_profile_id.clone(),
                node_type: node.node_type.clone(),
                ports: ports
                    .map(|(name, port)| (name.clone(), port.default))
                    .collect(),
            })
        }
        CommandAction::Install => Ok(Order::Install {
            steps: install_steps(catalogue, tx, node, agent).await?,
        }),
    }
}

/// Renders the recipe with what the agent prepared, and keeps the ports on the node.
async fn install_steps(
    catalogue: &Catalogue,
    tx: &mut Tx,
    node: &Node,
    agent: AgentId,
) -> Result<Vec<RenderedStep>, OpError> {
    let (root, ports) = newest_prepared(tx, node.id, agent).await?.ok_or_else(|| {
        OpError::Conflict("the agent did not say where the node's folder is".to_owned())
    })?;
    tx.set_ports(node.id, &ports).await?;
    let values = TemplateValues {
        root,
        ports,
        inputs: node.inputs.clone(),
        node_id: node.id.to_string(),
        provider: node.placement.provider.clone(),
        region: node.placement.region.clone(),
    };
    render_recipe(chain_of(catalogue, node)?, &node.node_type, &values)
        .map_err(|error| OpError::Conflict(error.to_string()))
}

/// The node's folder and ports at an agent, as it last prepared them.
pub(super) async fn newest_prepared(
    tx: &Tx,
    node: NodeId,
    agent: AgentId,
) -> Result<Option<(String, BTreeMap<String, u16>)>, OpError> {
    let newest_first = tx.list_commands(node, None, COMMANDS_MAX).await?;
    let prepared = newest_first.into_iter().find(|command| {
        command.agent_id == agent
            && command.kind == CommandKind::Prepare
            && command.state == State::Succeeded
    });
    let outcome = prepared.and_then(|command| command.result);
    Ok(outcome.and_then(|outcome| Some((outcome.root?, outcome.ports))))
}

fn chain_of<'a>(
    catalogue: &'a Catalogue,
    node: &Node,
) -> Result<&'a host_domain::config::ChainConfig, OpError> {
    let chain = catalogue.chains.chains.get(&node.chain_profile_id);
    chain.ok_or_else(|| OpError::not_found("chain", &node.chain_profile_id))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use host_domain::agent::{Agent, Machine};
    use host_domain::ids::{CommandId, MachineId, OperationId};
    use host_domain::node::NodeState;
    use host_workflows::node_activities::NodeRef;
    use uuid::Uuid;

    use super::*;
    use crate::test_bed::Bed;

    /// A machine with an agent.
    async fn machine(bed: &Bed) -> MachineId {
        let (host, created_at) = (MachineId(Uuid::now_v7()), bed.records.now());
        let row = Machine {
            id: host,
            name: "machine".to_owned(),
            provider: "local".to_owned(),
            region: "local".to_owned(),
            ip: None,
            created_at,
        };
        let agent = Agent {
            id: AgentId(Uuid::now_v7()),
            machine_id: host,
            name: "agent".to_owned(),
            version: "1".to_owned(),
            certificate_not_after: created_at,
            last_seen_at: None,
            revoked_at: None,
            created_at,
        };
        let mut tx = bed.records.db.begin().await.unwrap();
        tx.insert_machine(&row).await.unwrap();
        tx.insert_agent(&agent).await.unwrap();
        tx.commit().await.unwrap();
        host
    }

    #[tokio::test]
    async fn a_node_has_at_most_a_hundred_commands_that_have_not_ended() {
        let bed = Bed::new().await;
        let node = bed.node(NodeState::Healthy).await;
        let host = machine(&bed).await;
        let work = NodeWork::of(&bed.services, &bed.records);
        let request = || CommandRequest {
            node: NodeRef {
                node_id: node.id,
                operation_id: OperationId(Uuid::nil()),
            },
            command_id: CommandId(Uuid::now_v7()),
            action: CommandAction::Stop,
            limit: Duration::from_secs(1),
            mailbox: "end".to_owned(),
            machine_id: Some(host),
        };
        let first = request();
        assert_eq!(send(&work, "w", &first).await.unwrap(), Sent::Queued);
        for _ in 1..QUEUE_MAX {
            send(&work, "w", &request()).await.unwrap();
        }
        let refused = send(&work, "w", &request()).await.unwrap_err();
        assert!(
            matches!(&refused, OpError::Conflict(text) if text.contains("100 commands")),
            "{refused}"
        );
        let again = send(&work, "w", &first).await.unwrap();
        assert_eq!(again, Sent::Queued, "a repeated step finds its command");
        let command_id = first.command_id;
        withdraw(work.clone(), CommandRef { command_id })
            .await
            .unwrap();
        send(&work, "w", &request()).await.unwrap();
    }
}
