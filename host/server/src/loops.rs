//! Which loops a host runs: on every host, on the one that leads, on the one that orchestrates.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use crate::app::App;
use crate::orchestration::Orchestrator;
use crate::reconcile::{self, every, leading, on_change};
use crate::{reload, wakes, watch};
use host_store::Role;

/// How long a host that has nobody to contend with waits for its lead.
const LEAD_MAX: Duration = Duration::from_secs(5);

/// Starts them; each ends with the app.
pub(crate) async fn start(app: &App, engine: Option<&Orchestrator>) -> anyhow::Result<()> {
    let told = Arc::new(AtomicI64::new(app.db.event_log_last_seq().await?));
    let tail = move |app| {
        let told = Arc::clone(&told);
        async move { reconcile::event_tail::round(app, &told).await }
    };
    // Commits of other hosts may wake nobody here, so each loop that commits wake also looks by itself.
    let look_again = app.config.events.poll_interval;
    app.spawn(on_change(app.clone(), "event tail", look_again, tail));
    if engine.is_some() {
        let waiting = reconcile::bus::Workflows(app.role(Role::Orchestrator));
        app.bus.attach("workflows", Arc::new(waiting));
    }
    app.spawn(wakes::run(app.role(Role::Orchestrator)));
    app.spawn(watch::run(app.role(Role::Orchestrator)));
    let health = app.role(Role::Health);
    app.spawn(on_change(
        health.clone(),
        "outbox",
        look_again,
        reconcile::outbox::round,
    ));
    // Each host has a login of its own, which ends when nobody uses it.
    app.spawn(every(
        app.clone(),
        "keyring",
        Duration::from_mins(5),
        |app| async move { app.keyring.keep_alive().await },
    ));
    // What agents of this host said; each host looks after its own.
    app.spawn(every(
        health.clone(),
        "collectors",
        Duration::from_secs(2),
        |app| async move { app.look_after_collectors().await },
    ));
    app.spawn(every(
        health.clone(),
        "measures",
        reconcile::bus::MEASURED_EVERY,
        reconcile::bus::measure,
    ));
    app.spawn(every(
        app.role(Role::Orchestrator),
        "plugin secrets",
        Duration::from_secs(15),
        reload::secrets::round,
    ));
    start_leaders(&health).await;
    if let Some(engine) = engine {
        start_orchestrators(&app.role(Role::Orchestrator), engine);
    }
    Ok(())
}

/// What would be done twice if two hosts did it (design: domain.md, Leader election).
async fn start_leaders(app: &App) {
    app.spawn(reconcile::leadership::run(app.clone()));
    if app.db.is_sqlite() {
        // Nobody else contends: a host that has just started leads already.
        let mut lead = app.lead.subscribe();
        let led = lead.wait_for(Option::is_some);
        drop(tokio::time::timeout(LEAD_MAX, led).await);
    }
    app.spawn(leading(
        app.clone(),
        "heartbeats",
        app.config.health.heartbeat.evaluation_interval,
        reconcile::heartbeats::round,
    ));
    app.spawn(leading(
        app.clone(),
        "migrations",
        app.config.health.heartbeat.evaluation_interval,
        reconcile::migrations::round,
    ));
    app.spawn(reconcile::policies::run(app.clone()));
    app.spawn(reconcile::bus::run(app.clone()));
    app.spawn(reconcile::notifications::run(app.clone()));
    app.spawn(leading(
        app.clone(),
        "escalations",
        Duration::from_secs(30),
        reconcile::escalations::round,
    ));
    app.spawn(leading(
        app.clone(),
        "retention",
        Duration::from_mins(5),
        reconcile::retention::round,
    ));
    app.spawn(leading(
        app.clone(),
        "maintenance cleaner",
        Duration::from_mins(5),
        reconcile::cleaners::maintenance,
    ));
    app.spawn(leading(
        app.clone(),
        "subscription cleaner",
        Duration::from_mins(1),
        reconcile::subscriptions::round,
    ));
    app.spawn(leading(
        app.clone(),
        "keys",
        Duration::from_mins(5),
        reconcile::keys::round,
    ));
}

/// What belongs to the workflow engine.
fn start_orchestrators(app: &App, engine: &Orchestrator) {
    app.spawn(reconcile::workflows::run(app.clone()));
    app.spawn(every(
        app.clone(),
        "watchdog",
        Duration::from_mins(1),
        reconcile::watchdog::round,
    ));
    app.spawn(every(
        app.clone(),
        "machines",
        Duration::from_secs(10),
        reconcile::machines::round,
    ));
    app.spawn(every(
        app.clone(),
        "provisioning cleaner",
        Duration::from_mins(5),
        reconcile::cleaners::provisioning,
    ));
    let Some(engine) = engine.embedded() else {
        return;
    };
    let measured = Arc::clone(engine);
    app.spawn(every(
        app.clone(),
        "engine queues",
        Duration::from_secs(15),
        move |_| {
            let engine = Arc::clone(&measured);
            async move { engine.measure().await }
        },
    ));
    let pruned = Arc::clone(engine);
    app.spawn(every(
        app.clone(),
        "engine history",
        Duration::from_hours(1),
        move |app| {
            let engine = Arc::clone(&pruned);
            async move {
                engine
                    .prune(app.config.retention.workflows, app.clock.now())
                    .await
                    .map(drop)
            }
        },
    ));
}
