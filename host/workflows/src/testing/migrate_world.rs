//! A test world of two machines for node migrations, shared machines or machines of the node's own. It panics when
//! two processes of one identity run, or when a step comes before its precondition.

mod machines;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use host_domain::ids::{CommandId, MachineId};
use host_domain::time::Millis;
use uuid::Uuid;

use super::Post;
use super::checks::TestWorld;
use crate::activity::{Activities, Activity, ActivityContext};
use crate::error::{ActivityError, Failure};
use crate::flow::locked;
use crate::migrate_activities::{
    CheckConcluded, CheckFence, CheckMigration, CheckSettled, FenceSource, FenceTarget, Fenced,
    MarkMigrating, MarkMigrationFailed, PlaceOnTarget, ReleaseSource, RestoreSource, Route,
};
use crate::node_activities::{
    CommandAction, CommandRequest, CommandState, CommandStatus, MarkSyncing, Ready, ReportStep,
    SendCommand, Sent, StepState, WithdrawCommand,
};

const SOURCE: MachineId = MachineId(Uuid::from_u128(11));
const TARGET: MachineId = MachineId(Uuid::from_u128(12));
const ROUTE: Route = Route {
    source: SOURCE,
    target: TARGET,
    holds_keys: true,
};
/// The number of polls after which a lease has expired.
const LEASE_LOOKS: usize = 3;

/// What one machine has of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineSight {
    /// Directories.
    pub folders: u32,
    /// Whether the process runs.
    pub is_running: bool,
    /// Keys on the machine.
    pub keys: u32,
    /// Claims of the node, for a machine of its own.
    pub claims: u32,
    /// Plans of the machine; one stays beside it.
    pub plans: u32,
    /// Machines that exist for the node alone.
    pub machines: u32,
    /// Agents on them that are not revoked.
    pub agents: u32,
}

impl MachineSight {
    /// What remains of the machine when nothing of the node is on it.
    fn emptied(self) -> Self {
        Self {
            folders: 0,
            is_running: false,
            keys: 0,
            ..self
        }
    }
}

/// The content of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrateSight {
    /// The machine that the node is assigned to.
    pub place: &'static str,
    /// The source machine.
    pub source: MachineSight,
    /// The target machine.
    pub target: MachineSight,
    /// Whether a machine is reserved for it.
    pub is_reserved: bool,
    /// Tokens that are still valid.
    pub tokens: u32,
    /// The node's state.
    pub state: &'static str,
    /// The operation's state.
    pub operation: &'static str,
}

struct Inside {
    sight: MigrateSight,
    /// Whether each machine is a machine of the node's own.
    is_own: bool,
    is_agent_missing: bool,
    /// Unreachable agents; their processes live until the lease expires.
    deaf: Vec<MachineId>,
    fenced: Option<MachineId>,
    looks: BTreeSet<String>,
    commands: BTreeMap<CommandId, CommandState>,
    refusals: BTreeMap<&'static str, CommandState>,
    steps: Vec<(String, StepState)>,
    failure: Option<Failure>,
}

impl Inside {
    fn check(&self) {
        let MigrateSight { source, target, .. } = &self.sight;
        assert!(
            !(source.is_running && target.is_running),
            "two processes of one identity"
        );
    }

    fn machine(&mut self, id: MachineId) -> &mut MachineSight {
        if id == SOURCE {
            &mut self.sight.source
        } else {
            &mut self.sight.target
        }
    }

    fn fence(&mut self, machine: MachineId) -> Fenced {
        self.sight.place = "nowhere";
        if self.fenced != Some(machine) {
            (self.fenced, self.looks) = (Some(machine), BTreeSet::new());
        }
        let at = if machine == SOURCE { 1 } else { 2 };
        Fenced { at: Millis(at) }
    }

    fn execute(&mut self, request: &CommandRequest) -> CommandState {
        let machine = request
            .machine_id
            .expect("a node migration names the machine of each command");
        if self.deaf.contains(&machine) {
            return CommandState::Waiting;
        }
        let refused = self.refusals.get(request.action.as_str()).cloned();
        if let Some(refused) = refused {
            return refused;
        }
        let sight = self.machine(machine);
        match request.action {
            CommandAction::Prepare => sight.folders += 1,
            CommandAction::Install => {
                sight.is_running = true;
                sight.keys = 1;
            }
            CommandAction::Stop => sight.is_running = false,
            CommandAction::Uninstall => *sight = sight.emptied(),
        }
        self.check();
        CommandState::Succeeded
    }
}

/// The world.
#[derive(Clone)]
pub struct MigrateWorld {
    inside: Arc<Mutex<Inside>>,
    post: Post,
}

impl MigrateWorld {
    /// The source agent is unreachable and its process lives.
    pub fn cut_source_off(&self) {
        self.inside().deaf.push(SOURCE);
    }

    /// Each machine is a machine of the node's own.
    pub fn give_own_machines(&self) {
        let mut inside = self.inside();
        inside.is_own = true;
        inside.sight.source = MachineSight {
            claims: 1,
            plans: 1,
            machines: 1,
            agents: 1,
            ..inside.sight.source
        };
    }

    /// The agent of the created machine never connects.
    pub fn lose_new_agent(&self) {
        self.inside().is_agent_missing = true;
    }

    /// What the host does by itself as soon as it can: it releases the machine that a moved node has left.
    pub fn clean(&self) {
        let mut inside = self.inside();
        if inside.is_own && inside.sight.operation == "succeeded" {
            inside.sight.source = MachineSight::default();
        }
    }

    /// An agent answers a command with this state instead of executing it.
    pub fn refuse(&self, action: CommandAction, state: CommandState) {
        self.inside().refusals.insert(action.as_str(), state);
    }

    /// The steps that the operation shows.
    pub fn steps(&self) -> Vec<(String, StepState)> {
        self.inside().steps.clone()
    }

    /// The failure that the operation shows.
    pub fn failure(&self) -> Option<Failure> {
        self.inside().failure.clone()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        locked(&self.inside)
    }

    fn on<A, F>(&self, activities: &mut Activities, activity: A, act: F)
    where
        A: Activity,
        F: Fn(&mut Inside, A::Input) -> A::Output + Send + Sync + 'static,
    {
        let inside = Arc::clone(&self.inside);
        activities.on(activity, move |_, input| {
            let mut inside = locked(&inside);
            let output = act(&mut inside, input);
            inside.check();
            std::future::ready(Ok(output))
        });
    }

    fn send(&self, ctx: &ActivityContext, request: &CommandRequest) -> Sent {
        let mut inside = self.inside();
        if !inside.commands.contains_key(&request.command_id) {
            let state = inside.execute(request);
            inside.commands.insert(request.command_id, state);
        }
        if inside.commands.get(&request.command_id) != Some(&CommandState::Waiting) {
            self.post
                .send(ctx.workflow_id(), &request.mailbox, "\"ended\"");
        }
        Sent::Queued
    }

    /// The lease expires after some polls; a repeated poll counts once.
    fn look_at_fence(&self, step: &str) -> bool {
        let mut inside = self.inside();
        inside.looks.insert(step.to_owned());
        let is_over = inside.looks.len() > LEASE_LOOKS;
        if let Some(machine) = inside.fenced.filter(|_| is_over) {
            inside.machine(machine).is_running = false;
        }
        is_over
    }

    fn on_commands(&self, activities: &mut Activities) {
        let world = self.clone();
        activities.on(SendCommand, move |ctx, request| {
            let sent: Result<_, ActivityError> = Ok(world.send(&ctx, &request));
            std::future::ready(sent)
        });
        self.on(activities, CommandStatus, |inside, command| {
            let state = inside.commands.get(&command.command_id).cloned();
            state.unwrap_or(CommandState::Waiting)
        });
        self.on(activities, WithdrawCommand, |_, _| ());
    }

    fn on_places(&self, activities: &mut Activities) {
        self.on(activities, FenceSource, |inside, _| {
            assert!(
                !inside.is_own || inside.sight.target.agents == 1,
                "the old machine stays untouched until the new one exists"
            );
            inside.fence(SOURCE)
        });
        self.on(activities, FenceTarget, |inside, _| inside.fence(TARGET));
        let world = self.clone();
        activities.on(CheckFence, move |ctx, _| {
            let is_ready = world.look_at_fence(ctx.key());
            std::future::ready(Ok::<_, ActivityError>(Ready { is_ready }))
        });
        self.on(activities, PlaceOnTarget, |inside, _| {
            assert!(!inside.sight.source.is_running, "the old process runs");
            inside.sight.place = "target";
        });
        self.on(activities, RestoreSource, |inside, _| {
            inside.sight.place = "source";
            inside.sight.source.is_running = true;
        });
    }

    fn on_marks(&self, activities: &mut Activities) {
        self.on(activities, CheckMigration, |_, _| ());
        self.on(activities, MarkMigrating, |inside, _| {
            inside.sight.state = "provisioning";
        });
        self.on(activities, MarkSyncing, |inside, _| {
            inside.sight.state = "healthy";
        });
        self.on(activities, CheckSettled, |inside, _| Ready {
            is_ready: inside.sight.target.is_running,
        });
        self.on(activities, ReleaseSource, |inside, _| {
            if inside.is_own {
                inside.sight.source.agents = 0;
            } else {
                inside.sight.source = MachineSight::default();
            }
            inside.sight.operation = "succeeded";
        });
        self.on(activities, CheckConcluded, |inside, _| Ready {
            is_ready: inside.sight.operation == "succeeded",
        });
        self.on(activities, MarkMigrationFailed, |inside, failed| {
            inside.sight.state = "down";
            inside.sight.operation = "failed";
            inside.failure = Some(failed.failure);
        });
    }
}

impl TestWorld for MigrateWorld {
    type Sight = MigrateSight;

    fn new(post: &Post) -> Self {
        let source = MachineSight {
            folders: 1,
            is_running: true,
            keys: 1,
            ..MachineSight::default()
        };
        let sight = MigrateSight {
            place: "source",
            source,
            target: MachineSight::default(),
            is_reserved: false,
            tokens: 0,
            state: "down",
            operation: "running",
        };
        let inside = Inside {
            sight,
            is_own: false,
            is_agent_missing: false,
            deaf: Vec::new(),
            fenced: None,
            looks: BTreeSet::new(),
            commands: BTreeMap::new(),
            refusals: BTreeMap::new(),
            steps: Vec::new(),
            failure: None,
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
        self.on_commands(&mut activities);
        self.on_places(&mut activities);
        self.on_machines(&mut activities);
        self.on_marks(&mut activities);
        activities
    }

    fn sight(&self) -> MigrateSight {
        self.inside().sight
    }
}
