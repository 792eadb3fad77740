//! A test world of machines, tokens, directories and processes for the workflows on one node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use host_domain::ids::{CommandId, MachineId, NodeId, OperationId};
use uuid::Uuid;

use super::Post;
use super::checks::TestWorld;
use crate::activity::{Activities, Activity, ActivityContext};
use crate::error::{ActivityError, Failure};
use crate::flow::locked;
use crate::node_activities::{
    BackUpKeys, BootstrapAgent, CheckAgent, CheckNodeHealth, ClaimMachine, CommandAction,
    CommandRequest, CommandState, CommandStatus, CreateMachine, DeleteKeys, DestroyMachine,
    FailOperation, FinishOperation, GenerateKeys, MarkFailed, MarkSyncing, MarkTerminated,
    MarkTerminating, NodeRef, PlanMachine, Ready, ReportStep, Reserved, RetireKeys,
    RevokeEnrolmentToken, SendCommand, Sent, StepState, ValidateInputs, WithdrawCommand,
};

/// The node of the tests.
pub const NODE: NodeRef = NodeRef {
    node_id: NodeId(Uuid::from_u128(1)),
    operation_id: OperationId(Uuid::from_u128(2)),
};

/// The machine of the tests.
const HOST: Reserved = Reserved {
    machine_id: MachineId(Uuid::from_u128(3)),
};

/// The content of the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSight {
    /// Machines that the node holds.
    pub reserved: u32,
    /// Machines that a provider keeps for the node.
    pub machines: u32,
    /// Agents on them.
    pub agents: u32,
    /// Plans; one stays beside its machine.
    pub plans: u32,
    /// Tokens that are still valid.
    pub tokens: u32,
    /// Stored keys.
    pub keys: u32,
    /// Keys that outlive the node.
    pub retired_keys: u32,
    /// Directories on the machine.
    pub folders: u32,
    /// Processes on the machine.
    pub processes: u32,
    /// The node's state.
    pub state: &'static str,
    /// The operation's state.
    pub operation: &'static str,
}

#[derive(Default)]
struct Inside {
    sight: NodeSight,
    commands: BTreeMap<CommandId, CommandState>,
    steps: Vec<(String, StepState)>,
    failure: Option<Failure>,
    /// The answers of an agent that refuses a command.
    refusals: BTreeMap<&'static str, CommandState>,
    is_silent: bool,
    is_without_agent: bool,
}

/// The world.
#[derive(Clone)]
pub struct NodeWorld {
    inside: Arc<Mutex<Inside>>,
    post: Post,
}

impl NodeWorld {
    /// Loses every message from now on.
    pub fn lose_messages(&self) {
        locked(&self.inside).is_silent = true;
    }

    /// The machine has no agent and nothing of the node.
    pub fn take_agent_away(&self) {
        locked(&self.inside).is_without_agent = true;
    }

    /// The agent answers a command with this state instead of executing it.
    pub fn refuse(&self, action: CommandAction, state: CommandState) {
        locked(&self.inside).refusals.insert(action.as_str(), state);
    }

    /// The node runs, as after a provisioning.
    pub fn install(&self) {
        let mut inside = locked(&self.inside);
        inside.sight = NodeSight {
            reserved: 1,
            machines: 1,
            agents: 1,
            plans: 1,
            keys: 1,
            folders: 1,
            processes: 1,
            state: "healthy",
            operation: "running",
            ..NodeSight::default()
        };
    }

    /// The steps that the operation shows.
    pub fn steps(&self) -> Vec<(String, StepState)> {
        locked(&self.inside).steps.clone()
    }

    /// The failure that the operation shows.
    pub fn failure(&self) -> Option<Failure> {
        locked(&self.inside).failure.clone()
    }

    fn on<A, F>(&self, activities: &mut Activities, activity: A, act: F)
    where
        A: Activity,
        F: Fn(&mut Inside, A::Input) -> A::Output + Send + Sync + 'static,
    {
        let inside = Arc::clone(&self.inside);
        activities.on(activity, move |_, input| {
            let output = act(&mut locked(&inside), input);
            std::future::ready(Ok(output))
        });
    }

    fn send(&self, ctx: &ActivityContext, request: &CommandRequest) -> Sent {
        let mut inside = locked(&self.inside);
        if inside.is_without_agent {
            return Sent::NoAgent;
        }
        if !inside.commands.contains_key(&request.command_id) {
            let refused = inside.refusals.get(request.action.as_str()).cloned();
            let state = refused.unwrap_or_else(|| execute(&mut inside.sight, request.action));
            inside.commands.insert(request.command_id, state);
        }
        if !inside.is_silent {
            self.post
                .send(ctx.workflow_id(), &request.mailbox, "\"ended\"");
        }
        Sent::Queued
    }

    fn on_commands(&self, activities: &mut Activities) {
        let world = self.clone();
        activities.on(SendCommand, move |ctx, request| {
            let sent: Result<_, ActivityError> = Ok(world.send(&ctx, &request));
            std::future::ready(sent)
        });
        self.on(activities, CommandStatus, |inside, command| {
            inside
                .commands
                .get(&command.command_id)
                .cloned()
                .unwrap_or(CommandState::Waiting)
        });
        self.on(activities, WithdrawCommand, |inside, command| {
            let error = "withdrawn".to_owned();
            let withdrawn = CommandState::Failed {
                step: String::new(),
                error,
                output: String::new(),
            };
            if inside.commands.get(&command.command_id) == Some(&CommandState::Waiting) {
                inside.commands.insert(command.command_id, withdrawn);
            }
        });
    }

    fn on_machines(&self, activities: &mut Activities) {
        self.on(activities, ClaimMachine, |inside, _| {
            inside.sight.reserved = 1;
            HOST
        });
        self.on(activities, PlanMachine, |inside, _| {
            inside.sight.plans = 1;
            inside.sight.tokens = 1;
        });
        self.on(activities, CreateMachine, |inside, _| {
            assert_eq!(inside.sight.plans, 1, "nothing is created without a plan");
            inside.sight.machines = 1;
        });
        self.on(activities, BootstrapAgent, |inside, _| {
            assert_eq!(inside.sight.machines, 1, "no machine exists for the agent");
            inside.sight.agents = 1;
        });
        self.on(activities, DestroyMachine, |inside, _| {
            inside.sight = NodeSight {
                reserved: 0,
                machines: 0,
                agents: 0,
                plans: 0,
                ..inside.sight.clone()
            };
        });
    }

    fn on_marks(&self, activities: &mut Activities) {
        self.on(activities, MarkSyncing, |inside, _| {
            inside.sight.state = "healthy";
        });
        self.on(activities, MarkTerminating, |inside, _| {
            inside.sight.state = "terminating";
        });
        self.on(activities, FinishOperation, |inside, _| {
            inside.sight.operation = "succeeded";
        });
        self.on(activities, MarkTerminated, |inside, _| {
            inside.sight.state = "terminated";
            inside.sight.operation = "succeeded";
        });
        self.on(activities, FailOperation, |inside, failed| {
            inside.sight.operation = "failed";
            inside.failure = Some(failed.failure);
        });
        self.on(activities, MarkFailed, |inside, failed| {
            inside.sight.state = "failed";
            inside.sight.operation = "failed";
            inside.failure = Some(failed.failure);
        });
    }
}

impl TestWorld for NodeWorld {
    type Sight = NodeSight;

    fn new(post: &Post) -> Self {
        let sight = NodeSight {
            state: "provisioning",
            operation: "running",
            ..NodeSight::default()
        };
        let inside = Inside {
            sight,
            ..Inside::default()
        };
        Self {
            inside: Arc::new(Mutex::new(inside)),
            post: post.clone(),
        }
    }

    fn activities(&self) -> Activities {
        let mut activities = Activities::default();
        self.on(&mut activities, ReportStep, |inside, report| {
            inside.steps.push((report.step, report.state));
        });
        self.on(&mut activities, ValidateInputs, |_, _| ());
        self.on(&mut activities, GenerateKeys, |inside, _| {
            inside.sight.keys = 1;
        });
        self.on(&mut activities, DeleteKeys, |inside, _| {
            inside.sight.keys = 0;
        });
        self.on(&mut activities, BackUpKeys, |_, _| ());
        self.on(&mut activities, RetireKeys, |inside, _| {
            inside.sight.retired_keys += inside.sight.keys;
            inside.sight.keys = 0;
        });
        self.on(&mut activities, RevokeEnrolmentToken, |inside, _| {
            inside.sight.tokens = 0;
        });
        self.on(&mut activities, CheckAgent, |inside, _| {
            // Enrolling consumes the token.
            inside.sight.tokens = 0;
            Ready {
                is_ready: !inside.is_without_agent,
            }
        });
        self.on(&mut activities, CheckNodeHealth, |inside, _| Ready {
            is_ready: inside.sight.processes == 1,
        });
        self.on_machines(&mut activities);
        self.on_commands(&mut activities);
        self.on_marks(&mut activities);
        activities
    }

    fn sight(&self) -> NodeSight {
        locked(&self.inside).sight.clone()
    }
}

fn execute(sight: &mut NodeSight, action: CommandAction) -> CommandState {
    match action {
        CommandAction::Prepare => sight.folders += 1,
        CommandAction::Install => sight.processes += 1,
        CommandAction::Stop => sight.processes = 0,
        CommandAction::Uninstall => {
            sight.processes = 0;
            sight.folders = 0;
        }
    }
    CommandState::Succeeded
}
