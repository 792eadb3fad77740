//! Which engine runs the workflows of a database, and which hosts work for it.
//!
//! duroxide keeps how far workflows are in a file of one host, so two hosts with a file each would both run every one of them; a
//! Temporal is shared by all hosts. The database names the one engine that counts: the id beside a host's file, or a queue of
//! a Temporal. The host with that file orchestrates, and its activities are fenced, so that after a takeover a host that was
//! only frozen does nothing; the others serve, judge and keep agents, and leave to it what they accept. With a Temporal
//! every host is a worker, and nothing is left to another.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use host_workflows::{Activities, Workflows};
use rand::RngExt;

use crate::activities;
use crate::ops::Records;
use crate::services::Services;
use host_engine::EngineKind;
use host_engine::duroxide::{DuroxideEngine, DuroxideOptions, EngineLock};
#[cfg(feature = "temporal")]
use host_engine::temporal::TemporalEngine;
use host_store::Role;
use host_store::{Db, Fence, StoreError};
use host_system::write_private;

/// Under which name the database knows the engine.
const META: &str = "engine";
/// How the name of a Temporal begins; ids of files are hexadecimal.
const TEMPORAL: &str = "temporal:";
/// What the host with that file leads.
const NAME: &str = "workflows";

/// The engine that this host works for.
#[derive(Clone)]
pub(crate) enum Orchestrator {
    /// Its own.
    Duroxide(Arc<DuroxideEngine>),
    /// That of all hosts.
    #[cfg(feature = "temporal")]
    Temporal(Arc<TemporalEngine>),
}

impl Orchestrator {
    /// Stops accepting work and waits up to `grace` for running activities. An interrupted workflow resumes at the next start or,
    /// with Temporal, on another host.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        match self {
            Self::Duroxide(engine) => engine.shutdown(grace).await,
            #[cfg(feature = "temporal")]
            Self::Temporal(engine) => engine.shutdown(grace).await,
        }
    }

    /// The engine of this host alone, whose file grows until somebody prunes it. A Temporal forgets after its retention.
    #[cfg_attr(
        not(feature = "temporal"),
        expect(
            clippy::unnecessary_wraps,
            reason = "a build with Temporal has another engine"
        )
    )]
    pub(crate) fn embedded(&self) -> Option<&Arc<DuroxideEngine>> {
        match self {
            Self::Duroxide(engine) => Some(engine),
            #[cfg(feature = "temporal")]
            Self::Temporal(_) => None,
        }
    }
}

/// Starts the engine if this host is one that orchestrates. `around` is put around what its workflows do.
pub(crate) async fn start(
    services: &Services,
    state_dir: &Path,
    take_over: bool,
    around: impl FnOnce(Activities) -> Activities,
) -> anyhow::Result<Option<Orchestrator>> {
    match services.config.workflows.engine {
        EngineKind::Duroxide => start_duroxide(services, state_dir, take_over, around).await,
        EngineKind::Temporal => start_temporal(services, take_over, around).await.map(Some),
    }
}

async fn start_duroxide(
    services: &Services,
    state_dir: &Path,
    take_over: bool,
    around: impl FnOnce(Activities) -> Activities,
) -> anyhow::Result<Option<Orchestrator>> {
    let records = services.records(Role::Orchestrator);
    let own = own_id(&state_dir.join("engine-id"))?;
    let named = named(&records.db, &own, take_over).await?;
    if let Some(queue) = named.strip_prefix(TEMPORAL) {
        bail!(
            "the workflows of this database run on a Temporal ({queue}) and `workflows.engine` is `duroxide`; set it to `temporal`, or start once with `--take-over-workflows` after every host is stopped"
        );
    }
    if named != own {
        tracing::warn!(
            "another host runs the workflows of this database and executes the operations of this host; if that host is lost permanently, start once with `--take-over-workflows`"
        );
        return Ok(None);
    }
    // The file first: a start that is refused because a host runs already must not end that host's tenure.
    let lock = EngineLock::take(&state_dir.join("engine.db"));
    let lock = lock.context("the workflow engine can't start")?;
    let fence = begin_tenure(&records)
        .await
        .context("the tenure over the workflows could not be written down")?;
    let activities = around(activities::all(services, &records.fenced(fence)));
    let options = DuroxideOptions::default();
    let engine = DuroxideEngine::start_locked(lock, Workflows::all(), activities, options).await;
    let engine = Arc::new(engine.context("the workflow engine can't start")?);
    services.engine.set(engine.clone());
    Ok(Some(Orchestrator::Duroxide(engine)))
}

/// A build without Temporal's client says how to get one that has it.
#[cfg(not(feature = "temporal"))]
#[expect(clippy::unused_async, reason = "a build with Temporal waits for it")]
async fn start_temporal(
    _services: &Services,
    _take_over: bool,
    _around: impl FnOnce(Activities) -> Activities,
) -> anyhow::Result<Orchestrator> {
    bail!(
        "`workflows.engine` is `temporal`, and this program was built without it; build with `cargo build -p bellwether --features temporal`, or set `workflows.engine` to `duroxide`"
    );
}

/// Any number of hosts do this.
#[cfg(feature = "temporal")]
async fn start_temporal(
    services: &Services,
    take_over: bool,
    around: impl FnOnce(Activities) -> Activities,
) -> anyhow::Result<Orchestrator> {
    let records = services.records(Role::Orchestrator);
    let options = services.config.workflows.temporal.options()?;
    let own = format!("{TEMPORAL}{}/{}", options.namespace, options.task_queue);
    let named = named(&records.db, &own, take_over).await?;
    if named != own {
        let other = match named.strip_prefix(TEMPORAL) {
            Some(queue) => format!("on the queue {queue} of a Temporal"),
            None => "in the engine file of one host".to_owned(),
        };
        bail!(
            "the workflows of this database run {other}, and by `workflows` of the settings they would run elsewhere; let them end, stop every host, and start once with `--take-over-workflows`"
        );
    }
    if take_over {
        // A host with an engine file that was only frozen does nothing any more.
        begin_tenure(&records)
            .await
            .context("the tenure over the workflows could not be written down")?;
    }
    let activities = around(activities::all(services, &records));
    let engine = TemporalEngine::start(options, Workflows::all(), activities).await;
    let engine = Arc::new(engine.context("the workflow engine can't start")?);
    services.engine.set(engine.clone());
    Ok(Orchestrator::Temporal(engine))
}

/// The id of this host's engine file: made once.
fn own_id(path: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(id) => Ok(id.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = hex::encode(rand::rng().random::<[u8; 16]>());
            write_private(path, id.as_bytes())?;
            Ok(id)
        }
        Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
    }
}

/// The engine that the database names. The first one that asks is named.
async fn named(db: &Db, own: &str, take_over: bool) -> anyhow::Result<String> {
    let claimed = async {
        let mut tx = db.begin().await?;
        if take_over {
            tx.set_meta(META, own).await?;
        }
        let named = tx.claim_meta(META, own).await?;
        tx.commit().await?;
        Ok::<_, StoreError>(named)
    };
    claimed
        .await
        .context("the database does not say what runs the workflows")
}

async fn begin_tenure(records: &Records) -> Result<Fence, StoreError> {
    let mut tx = records.db.begin().await?;
    let epoch = tx
        .take_leader_epoch(NAME, &records.worker, records.now())
        .await?;
    tx.commit().await?;
    Ok(Fence {
        name: NAME.to_owned(),
        epoch,
    })
}
