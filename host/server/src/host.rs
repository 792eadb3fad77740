//! Starts and stops a host: opens what is needed in the order of need, serves, runs the loops, and ends in the reverse order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use aws_lc_rs::hmac;
use host_domain::time::Clock;
use host_gateway::{CertificateAuthority, Gateway, GatewayOptions, GatewayParts};
use host_runtime::{
    CompileMode, PluginHost, RuntimeConfig, SecretSource, Services as PluginServices,
};
use host_secrets::PluginSecrets;
use host_workflows::Activities;
use rand::RngExt;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::gateway_store::GatewayDb;
use crate::ops::UseCases;
use crate::orchestration::{self, Orchestrator};
use crate::plugin_kv::DbKv;
pub use crate::reconcile::Evaluation;
use crate::services::{Opened, Services};
use crate::{api, installation, reconcile, wakes, watch};
use host_bus::Bus;
use host_keys::{KeyBackup, Keyring};
use host_store::{Databases, Role};
use host_store::{Db, DbOptions};
use host_system::{private_folder, write_private};

/// How long requests and activities may take to end at a shutdown.
const GRACE: Duration = Duration::from_secs(30);

/// How long a host that does not contend waits for its lead.
const LEAD_MAX: Duration = Duration::from_secs(5);

/// What the process decides, not the configuration.
pub struct HostOptions {
    /// How components are compiled: in a child process, or in this one for tests.
    pub compile: CompileMode,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whether the database may be changed to fit.
    pub schema: Schema,
    /// Makes this host run the workflows, because the one that did is lost for good.
    pub take_over_workflows: bool,
}

/// What happens to a database whose schema is older than the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// It is migrated.
    Migrate,
    /// It is refused with the command that migrates it: other hosts may run on it.
    Require,
}

/// A host that serves.
pub struct Host {
    /// Its use cases.
    pub ops: Arc<UseCases>,
    /// Evaluates policies outside their loop.
    pub evaluation: Evaluation,
    /// Where the HTTP API and the console are.
    pub http: SocketAddr,
    /// Where agents connect.
    pub gateway: SocketAddr,
    /// The certificate of the authority that agents trust, in PEM.
    pub ca_file: PathBuf,
    // On the heap, because callers hold and pass on a host.
    services: Box<Services>,
    /// The workflow engine, if this host runs the workflows.
    engine: Option<Orchestrator>,
}

impl Host {
    /// Opens everything and serves. What is missing or broken is an error that says what to do.
    pub async fn start(config: Config, options: HostOptions) -> anyhow::Result<Self> {
        // On the heap: it is large, and whoever calls this holds it.
        Box::pin(Self::start_around(config, options, |activities| activities)).await
    }

    /// The same with something around all that workflows do, such as what lets it fail. No command and no setting leads here.
    pub async fn start_around(
        config: Config,
        options: HostOptions,
        around: impl FnOnce(Activities) -> Activities,
    ) -> anyhow::Result<Self> {
        let state_dir = private_folder(&config.state_dir)?;
        // Bound first: a second host on the same address is told so before it touches anything.
        let http = listen(config.http.listen).await?;
        let db = open_migrated(&config, &state_dir, options.schema).await?;
        let ca_dir = state_dir.join("ca");
        let authority = CertificateAuthority::open(&ca_dir, options.clock.as_ref())
            .context("the certificate authority can't be used")?;
        let runtime = RuntimeConfig {
            component_bytes_max: u64::from(config.chains.component_max_mib) << 20,
            ..RuntimeConfig::new(state_dir.join("cache"), options.compile)
        };
        let secrets = plugin_secrets(&config, &options.clock).await?;
        let pepper = pepper(&state_dir.join("api-key-pepper"))?;
        let keyring = Keyring::open(&config.keys, &state_dir, &options.clock)
            .context("what wraps nodes' keys can't be used")?;
        let key_backup = config.keys.backup.as_ref().map(KeyBackup::open);
        let key_backup = key_backup.transpose().context("`keys.backup`")?;
        installation::check(&db, &authority, &pepper, &state_dir).await?;
        installation::check_keyring(&db, &keyring, &state_dir).await?;
        let worker = format!("{}-{:08x}", std::process::id(), rand::rng().random::<u32>());
        let databases = databases(db).await?;
        let plugin_services = PluginServices {
            clock: Arc::clone(&options.clock),
            secrets: Arc::clone(&secrets) as Arc<dyn SecretSource>,
            kv: Arc::new(DbKv::new(databases.role(Role::Health).clone())),
        };
        let services = Box::new(Services::new(Opened {
            bus: Bus::open(&config.events, &worker).await?,
            databases,
            plugins: PluginHost::new(runtime, plugin_services)
                .context("the plugin runtime can't start")?,
            pepper,
            keyring,
            key_backup,
            secrets,
            worker,
            clock: options.clock,
            config,
        }));
        services
            .reload
            .run_first()
            .await
            .context("the chain configurations can't be used")?;
        // After the catalogue: the engine goes on with unfinished workflows at once, and they ask for chains.
        let engine =
            orchestration::start(&services, &state_dir, options.take_over_workflows, around)
                .await?;
        let gateway = start_gateway(&services, authority).await?;
        let host = Self {
            http: http.local_addr()?,
            gateway: gateway.local_addr(),
            ops: Arc::new(services.use_cases()),
            evaluation: Evaluation::of(&services),
            services,
            ca_file: ca_dir.join("ca.pem"),
            engine,
        };
        host.serve_http(http);
        host.start_loops().await?;
        Ok(host)
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.services.config
    }

    /// What the embedded agent of `dev` needs from its host.
    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// Asks every task to end.
    pub fn begin_shutdown(&self) {
        self.services.tasks.begin_shutdown();
    }

    fn serve_http(&self, listener: TcpListener) {
        let tasks = &self.services.tasks;
        let served = api::serve(Arc::clone(&self.ops), listener, tasks.shutdown.clone());
        tasks.spawn(async move {
            if let Err(error) = served.await {
                tracing::error!("the HTTP server ended: {error}");
            }
        });
    }

    /// Starts the loops and the other tasks; each ends with the host.
    async fn start_loops(&self) -> anyhow::Result<()> {
        let (services, engine) = (&self.services, self.engine.as_ref());
        if engine.is_some() {
            reconcile::bus::attach_workflows(services);
        }
        let loops = reconcile::loops(services, engine).await?;
        let tasks = &services.tasks;
        tasks.spawn(wakes::Wakes::of(services).run());
        tasks.spawn(watch::run(
            services.reload.clone(),
            services.config.chains.clone(),
            tasks.shutdown.clone(),
        ));
        let contest = reconcile::leadership::Contest::of(services);
        tasks.spawn(reconcile::leadership::run(contest));
        if services.records(Role::Health).db.is_sqlite() {
            // No other host contends: this host leads before its loops start.
            let mut lead = services.lead.subscribe();
            let led = lead.wait_for(Option::is_some);
            drop(tokio::time::timeout(LEAD_MAX, led).await);
        }
        for looped in loops {
            reconcile::spawn(services, looped);
        }
        Ok(())
    }

    /// Stops serving, lets work in hand end, and closes the database.
    pub async fn stop(self) {
        self.services.agents.sessions.drain();
        self.begin_shutdown();
        if let Some(engine) = &self.engine {
            engine.shutdown(GRACE).await;
        }
        if tokio::time::timeout(GRACE, self.services.tasks.ended())
            .await
            .is_err()
        {
            tracing::warn!("some tasks did not end within {} s", GRACE.as_secs());
        }
        self.services.close_databases().await;
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "can't listen on {address}; is a host running already? Set `http.listen`, or `--http` of `dev`, to another address"
        )
    })
}

async fn open_migrated(config: &Config, state_dir: &Path, schema: Schema) -> anyhow::Result<Db> {
    let db = open_database(config, state_dir, &DbOptions::default()).await?;
    match schema {
        Schema::Migrate => db.migrate().await,
        Schema::Require => db.check_schema().await,
    }
    .context("the database can't be used")?;
    Ok(db)
}

/// Opens the database of the settings, whatever its schema is.
pub(crate) async fn open_database(
    config: &Config,
    state_dir: &Path,
    options: &DbOptions,
) -> anyhow::Result<Db> {
    let url = config.database.address(state_dir)?;
    let opened = Db::open(url.expose(), options).await;
    let mend = if url.is_sqlite() {
        "check the folder `state_dir`; `bellwether migrate` makes a new one in it"
    } else {
        "check `database.url` and that the server runs"
    };
    opened.with_context(|| format!("the database can't be opened; {mend}"))
}

/// Gives each role its connections; those that the start used are not needed any more.
async fn databases(db: Db) -> anyhow::Result<Databases> {
    let databases = Databases::of(&db)
        .await
        .context("the database has too few connections for every part of the host")?;
    if !db.is_sqlite() {
        db.close().await;
    }
    Ok(databases)
}

/// Reads the secrets that plugins of this host can be granted. A value that can't be read concerns only the plugins that need it.
pub(crate) async fn plugin_secrets(
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Arc<PluginSecrets>> {
    let (places, vault) = (config.secrets.clone(), config.vault.as_ref());
    let secrets = PluginSecrets::new(places, vault, Arc::clone(clock))?;
    secrets.refresh().await;
    Ok(Arc::new(secrets))
}

/// The key of API key hashes: made once, readable by its owner only.
fn pepper(path: &Path) -> anyhow::Result<hmac::Key> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let random: [u8; 32] = rand::rng().random();
            write_private(path, &random)?;
            random.to_vec()
        }
        Err(error) => return Err(error).with_context(|| format!("can't read {}", path.display())),
    };
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

async fn start_gateway(
    services: &Services,
    authority: CertificateAuthority,
) -> anyhow::Result<Gateway> {
    let config = &services.config;
    let options = GatewayOptions {
        beat_interval: config.health.heartbeat.beat_interval,
        lease: config.migration.lease,
        ..GatewayOptions::default()
    };
    let records = services.records(Role::Gateway);
    let components = services.chains.clone();
    let keys = Arc::new(services.node_keys(records.clone()));
    let imports = Arc::clone(&keys);
    let parts = GatewayParts {
        store: Arc::new(GatewayDb::new(records.db)),
        clock: records.clock,
        authority: Arc::new(authority),
        sessions: services.agents.sessions.clone(),
        events: Arc::new(services.agent_events()),
        assignments: Arc::new(services.assignments()),
        components: Arc::new(move |digest| components.collector_component(digest)),
        keys: Arc::new(move |key| {
            let keys = Arc::clone(&keys);
            Box::pin(async move { keys.open(key).await })
        }),
        awaits_key_import: Arc::new(move |node, name| imports.is_import_awaited(node, name)),
        shutdown: services.tasks.shutdown.clone(),
        tasks: services.tasks.tracker.clone(),
    };
    Gateway::start(config.gateway.clone(), options, parts)
        .await
        .context("the agent gateway can't start")
}
