//! The composition root: builds the small structs that use cases, loops and activities work with.
//!
//! Only startup and the registration functions of loops and activities see all of [`Services`]; each takes out what it needs.

use std::sync::Arc;

use aws_lc_rs::hmac;
use host_bus::Bus;
use host_domain::time::Clock;
use host_gateway::Sessions;
use host_keys::{KeyBackup, Keyring};
use host_machines::MachineProviders;
use host_runtime::PluginHost;
use host_secrets::PluginSecrets;
use host_store::{Databases, Fence, Role};
use tokio::sync::watch;

use crate::config::Config;
use crate::ops::{
    AgentEvents, AgentLink, Agents, ApiKeys, Assignments, AuditLog, Chains, CollectorWatch,
    Collectors, DeadLetters, EventStream, Incidents, Keys, LiveEvents, Machines, NodeKeys,
    NodeMigrations, Nodes, Operations, PluginIncidents, Plugins, Readiness, Records, Reload,
    StoredAnswers, Subscriptions, UseCases, WorkflowAdmin, WorkflowEngine,
};
use crate::tasks::Tasks;

/// What the caller of [`Services::new`] opened before.
pub(crate) struct Opened {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) databases: Databases,
    pub(crate) plugins: PluginHost,
    pub(crate) pepper: hmac::Key,
    pub(crate) keyring: Keyring,
    pub(crate) key_backup: Option<KeyBackup>,
    /// The values of plugin secrets.
    pub(crate) secrets: Arc<PluginSecrets>,
    pub(crate) worker: String,
    pub(crate) bus: Bus,
}

/// Every service of a host.
pub(crate) struct Services {
    pub(crate) config: Config,
    pub(crate) agents: AgentLink,
    pub(crate) bus: Bus,
    pub(crate) chains: Chains,
    /// Reports of agents about collectors that fail.
    pub(crate) collectors: Arc<CollectorWatch>,
    pub(crate) engine: WorkflowEngine,
    pub(crate) keys: Keys,
    /// The tenure in which this process leads the fleet; `None` while another one does.
    pub(crate) lead: Arc<watch::Sender<Option<Fence>>>,
    pub(crate) live: LiveEvents,
    pub(crate) machines: Machines,
    pub(crate) plugin_incidents: PluginIncidents,
    pub(crate) reload: Reload,
    pub(crate) tasks: Tasks,
    databases: Databases,
    clock: Arc<dyn Clock>,
    worker: Arc<str>,
    pepper: hmac::Key,
}

impl Services {
    pub(crate) fn new(opened: Opened) -> Self {
        let Opened { config, bus, .. } = opened;
        let providers = MachineProviders::new(&config.machine_providers, &config.state_dir);
        let agents = AgentLink {
            sessions: Sessions::default(),
            bus: bus.clone(),
            clock: Arc::clone(&opened.clock),
            token_life: config.provisioning.token_life,
        };
        let chains = Chains::default();
        let worker: Arc<str> = opened.worker.into();
        let records = Records {
            db: opened.databases.role(Role::Orchestrator).clone(),
            clock: Arc::clone(&opened.clock),
            worker: Arc::clone(&worker),
        };
        let folder = (config.chains.clone(), config.state_dir.clone());
        Self {
            reload: Reload::new(
                records,
                chains.clone(),
                (opened.plugins, opened.secrets),
                agents.clone(),
                folder,
            ),
            agents,
            chains,
            collectors: Arc::default(),
            engine: WorkflowEngine::new(
                bus.clone(),
                config.provisioning.clone(),
                config.migration.clone(),
            ),
            keys: Keys {
                keyring: Arc::new(opened.keyring),
                backup: opened.key_backup.map(Arc::new),
            },
            lead: Arc::new(watch::Sender::new(None)),
            live: LiveEvents::default(),
            machines: Machines::new(providers, config.health.heartbeat.heartbeat_timeout),
            plugin_incidents: PluginIncidents::default(),
            tasks: Tasks::default(),
            databases: opened.databases,
            clock: opened.clock,
            worker,
            pepper: opened.pepper,
            bus,
            config,
        }
    }

    /// The records through the connections of a role.
    pub(crate) fn records(&self, role: Role) -> Records {
        Records {
            db: self.databases.role(role).clone(),
            clock: Arc::clone(&self.clock),
            worker: Arc::clone(&self.worker),
        }
    }

    /// Closes every connection to the database.
    pub(crate) async fn close_databases(&self) {
        self.databases.close().await;
    }

    /// The use cases of the API and the commands. Also starts the tasks of use cases, which end with the host.
    pub(crate) fn use_cases(&self) -> UseCases {
        let records = self.records(Role::Api);
        let (chains, machines, engine) = (&self.chains, &self.machines, &self.engine);
        let migrations = self.migrations(records.clone());
        let nodes = self.nodes(records.clone());
        UseCases {
            clock: Arc::clone(&self.clock),
            agents: Agents::new(records.clone(), self.agents.clone()),
            answers: StoredAnswers::new(records.clone()),
            api_keys: ApiKeys::new(records.clone(), self.pepper.clone(), &self.tasks),
            audit: AuditLog::new(records.clone()),
            chains: chains.clone(),
            dead_letters: DeadLetters::new(records.clone(), chains.clone()),
            events: EventStream::new(
                records.clone(),
                self.live.clone(),
                self.tasks.shutdown.clone(),
            ),
            incidents: Incidents::new(records.clone(), chains.clone()),
            node_keys: self.node_keys(records.clone()),
            operations: Operations::new(
                records.clone(),
                engine.clone(),
                self.config.events.poll_interval,
            ),
            plugins: Plugins::new(
                records.clone(),
                chains.clone(),
                Arc::clone(&self.collectors),
                self.reload.clone(),
            ),
            readiness: self.readiness(records.clone()),
            subscriptions: Subscriptions::new(
                records.clone(),
                chains.clone(),
                machines.clone(),
                engine.clone(),
                self.config.subscriptions.clone(),
            ),
            workflows: WorkflowAdmin::new(
                records,
                engine.clone(),
                nodes.clone(),
                migrations.clone(),
            ),
            migrations,
            nodes,
        }
    }

    /// The use cases on nodes.
    pub(crate) fn nodes(&self, records: Records) -> Nodes {
        Nodes::new(
            records,
            self.chains.clone(),
            self.machines.clone(),
            self.engine.clone(),
            self.keys.backup.is_some(),
        )
    }

    /// The use cases on keys of nodes.
    pub(crate) fn node_keys(&self, records: Records) -> NodeKeys {
        NodeKeys::new(records, self.chains.clone(), self.keys.clone())
    }

    /// The incidents of collectors.
    pub(crate) fn collectors(&self, role: Role) -> Collectors {
        Collectors::new(
            self.records(role),
            self.chains.clone(),
            self.plugin_incidents.clone(),
            Arc::clone(&self.collectors),
        )
    }

    /// The handler of what agents report.
    pub(crate) fn agent_events(&self) -> AgentEvents {
        AgentEvents {
            records: self.records(Role::Gateway),
            chains: self.chains.clone(),
            engine: self.engine.clone(),
            collectors: self.collectors(Role::Gateway),
            live: self.live.clone(),
        }
    }

    /// The assignments of agents.
    pub(crate) fn assignments(&self) -> Assignments {
        Assignments {
            records: self.records(Role::Gateway),
            chains: self.chains.clone(),
        }
    }

    fn migrations(&self, records: Records) -> NodeMigrations {
        NodeMigrations::new(
            records,
            self.machines.clone(),
            self.engine.clone(),
            self.config.migration.clone(),
        )
    }

    fn readiness(&self, records: Records) -> Readiness {
        Readiness {
            records,
            chains: self.chains.clone(),
            engine: self.engine.clone(),
            engine_kind: self.config.workflows.engine,
            keys: self.keys.clone(),
            agents: self.agents.clone(),
            shutdown: self.tasks.shutdown.clone(),
        }
    }
}
