//! Which host of a database runs its workflows: the one whose engine file the database names.
//!
//! The engine keeps how far workflows are in a file of its own, so two hosts with a file each would both run every one of
//! them. The database names one file, by an id beside it. That host orchestrates; the others serve, judge and keep agents, and
//! leave to it what they accept. Its activities are fenced, so that after a takeover a host that was only frozen does nothing.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use host_workflows::Workflows;
use rand::RngExt;

use crate::activities;
use crate::app::App;
use crate::databases::Role;
use crate::engine::duroxide::{DuroxideEngine, DuroxideOptions, EngineLock};
use crate::host::write_private;
use crate::store::{Db, Fence, StoreError};

/// Under which name the database knows the engine file.
const META: &str = "engine";
/// What the host with that file leads.
const NAME: &str = "workflows";

/// Starts the engine if this host is the one that orchestrates.
pub(crate) async fn start(
    app: &App,
    state_dir: &Path,
    take_over: bool,
) -> anyhow::Result<Option<Arc<DuroxideEngine>>> {
    let app = app.role(Role::Orchestrator);
    let own = own_id(&state_dir.join("engine-id"))?;
    if !is_named(&app.db, &own, take_over)
        .await
        .context("the database does not say which host runs the workflows")?
    {
        tracing::warn!(
            "another host runs the workflows of this database, and what is asked for here is left to it; when it is lost for good, start once with `--take-over-workflows`"
        );
        return Ok(None);
    }
    // The file first: a start that is refused because a host runs already must not end that host's tenure.
    let lock = EngineLock::take(&state_dir.join("engine.db"));
    let lock = lock.context("the workflow engine can't start")?;
    let fence = begin_tenure(&app)
        .await
        .context("the tenure over the workflows could not be written down")?;
    let activities = activities::all(&app.led_by(fence));
    let options = DuroxideOptions::default();
    let engine = DuroxideEngine::start_locked(lock, Workflows::all(), activities, options).await;
    let engine = Arc::new(engine.context("the workflow engine can't start")?);
    app.set_engine(engine.clone());
    Ok(Some(engine))
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

/// Whether the database names this engine file. The first one that asks is named.
async fn is_named(db: &Db, own: &str, take_over: bool) -> Result<bool, StoreError> {
    let mut tx = db.begin().await?;
    if take_over {
        tx.set_meta(META, own).await?;
    }
    let named = tx.claim_meta(META, own).await?;
    tx.commit().await?;
    Ok(named == own)
}

async fn begin_tenure(app: &App) -> Result<Fence, StoreError> {
    let mut tx = app.db.begin().await?;
    let epoch = tx
        .take_leader_epoch(NAME, &app.worker, app.clock.now())
        .await?;
    tx.commit().await?;
    Ok(Fence {
        name: NAME.to_owned(),
        epoch,
    })
}
