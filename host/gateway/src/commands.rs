//! Encodes commands for agents when the host queues them, so that a stored command never changes its meaning.

use std::collections::BTreeMap;

use host_domain::command::CommandKind;
use host_domain::config::step::RenderedStep;
use host_domain::ids::{CommandId, NodeId};
use host_domain::time::Millis;
use prost::Message;
use proto::v1;

use crate::server::MESSAGE_BYTES_MAX;
use crate::steps;

/// What an agent should do at a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Create the node's folder and reserve its ports.
    Prepare {
        /// The node's chain.
        chain: String,
        /// The node's type.
        node_type: String,
        /// Port names and the preferred port of each; 0 means any.
        ports: BTreeMap<String, u16>,
    },
    /// Run the recipe.
    Install {
        /// Its steps in order.
        steps: Vec<RenderedStep>,
    },
    /// Start the stopped processes.
    Start,
    /// Stop the processes.
    Stop,
    /// Stop and start the processes.
    Restart,
    /// Stop the processes and remove everything.
    Uninstall,
}

/// A command is larger than a message may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the command has {bytes} bytes; the limit is {MESSAGE_BYTES_MAX}; download large files in the recipe instead of embedding them"
)]
pub struct CommandTooLarge {
    /// The size of the command.
    pub bytes: usize,
}

impl Order {
    /// The kind of the command.
    pub fn kind(&self) -> CommandKind {
        match self {
            Self::Prepare { .. } => CommandKind::Prepare,
            Self::Install { .. } => CommandKind::Install,
            Self::Start => CommandKind::Start,
            Self::Stop => CommandKind::Stop,
            Self::Restart => CommandKind::Restart,
            Self::Uninstall => CommandKind::Uninstall,
        }
    }
}

/// Encodes the payload of a command.
pub fn encode_command(
    id: CommandId,
    node_id: NodeId,
    deadline: Millis,
    order: &Order,
) -> Result<Vec<u8>, CommandTooLarge> {
    use v1::command::Action;
    let action = match order {
        Order::Prepare {
            chain,
            node_type,
            ports,
        } => Action::Prepare(v1::Prepare {
            chain: chain.clone(),
            node_type: node_type.clone(),
            ports: ports
                .iter()
                .map(|(name, port)| (name.clone(), u32::from(*port)))
                .collect(),
        }),
        Order::Install { steps: rendered } => Action::Install(v1::Install {
            steps: rendered.iter().map(steps::step).collect(),
        }),
        Order::Start => Action::Start(v1::Start {}),
        Order::Stop => Action::Stop(v1::Stop {}),
        Order::Restart => Action::Restart(v1::Restart {}),
        Order::Uninstall => Action::Uninstall(v1::Uninstall {}),
    };
    let command = v1::Command {
        id: id.to_string(),
        node_id: node_id.to_string(),
        deadline_ms: deadline.0,
        action: Some(action),
    };
    // The envelope adds a few bytes.
    let bytes = command.encoded_len() + 16;
    if bytes > MESSAGE_BYTES_MAX {
        return Err(CommandTooLarge { bytes });
    }
    Ok(command.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use host_domain::config::recipe::Retry;
    use host_domain::config::step::RenderedAction;
    use uuid::Uuid;

    use super::*;

    fn file(bytes: usize) -> Order {
        let action = RenderedAction::File {
            path: "config/app.toml".to_owned(),
            content: "x".repeat(bytes),
            mode: 0o640,
        };
        let step = RenderedStep {
            name: "configure".to_owned(),
            creates: None,
            timeout: std::time::Duration::from_secs(5),
            retry: Retry::default(),
            action,
        };
        Order::Install { steps: vec![step] }
    }

    fn encode(order: &Order) -> Result<Vec<u8>, CommandTooLarge> {
        encode_command(
            CommandId(Uuid::nil()),
            NodeId(Uuid::nil()),
            Millis(7),
            order,
        )
    }

    #[test]
    fn an_install_carries_its_steps() {
        let command = v1::Command::decode(encode(&file(3)).unwrap().as_slice()).unwrap();
        assert_eq!(
            (command.deadline_ms, command.id),
            (7, Uuid::nil().to_string())
        );
        let Some(v1::command::Action::Install(install)) = command.action else {
            panic!("not an install");
        };
        let step = &install.steps[0];
        assert_eq!((step.name.as_str(), step.timeout_ms), ("configure", 5_000));
        let Some(v1::step::Action::File(file)) = &step.action else {
            panic!("not a file")
        };
        assert_eq!(
            (file.content.as_slice(), file.mode),
            (b"xxx".as_slice(), 0o640)
        );
    }

    #[test]
    fn a_command_larger_than_a_message_is_refused_when_it_is_queued() {
        assert!(encode(&file(MESSAGE_BYTES_MAX - 1_024)).is_ok());
        assert!(encode(&file(MESSAGE_BYTES_MAX)).is_err());
    }
}
