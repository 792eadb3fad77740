//! Wake-ups between the hosts of one installation: tells others of this host's commits, and does what others tell.
//!
//! Whatever a wake-up starts is idempotent and also happens without it, a little later.

use std::time::Duration;

use host_domain::ids::OperationId;
use host_domain::operation::OperationState;
use tokio::sync::broadcast::error::RecvError;

use crate::app::App;
use crate::ops::OpError;
use host_bus::Wake;

/// Commits within this time are told together.
const TOGETHER: Duration = Duration::from_millis(20);

/// Runs until the app ends.
pub(crate) async fn run(app: App) {
    tokio::select! {
        () = app.bus.run(&app.shutdown) => {}
        () = tell(&app) => {}
        () = hear(&app) => {}
    }
}

/// Tells others that there is something new in the event log.
async fn tell(app: &App) {
    let mut changes = app.db.changes();
    let mut told = changes.borrow().logged;
    while changes.changed().await.is_ok() {
        let logged = changes.borrow_and_update().logged;
        // What others told of is in there too, and must not be told back.
        if logged != told {
            told = logged;
            app.bus.wake(Wake::Log);
            tokio::time::sleep(TOGETHER).await;
        }
    }
}

async fn hear(app: &App) {
    let Some(mut wakes) = app.bus.wakes() else {
        return app.shutdown.cancelled().await;
    };
    loop {
        let wake = match wakes.recv().await {
            Ok(wake) => wake,
            Err(RecvError::Lagged(_)) => Wake::Everything,
            Err(RecvError::Closed) => return,
        };
        if let Err(error) = follow(app, &wake).await {
            tracing::warn!("a wake-up came to nothing, the next look makes up for it: {error:#}");
        }
    }
}

async fn follow(app: &App, wake: &Wake) -> Result<(), OpError> {
    match wake {
        Wake::Log => app.db.look_again(),
        Wake::Commands { agent } => app.sessions.notify(*agent),
        Wake::Operation { operation } => take_up(app, *operation).await?,
        Wake::Workflow { workflow, mailbox } => {
            if app.engine().is_some() {
                app.hint(workflow, mailbox).await;
            }
        }
        Wake::Everything => {
            app.db.look_again();
            app.sessions.notify_all();
        }
    }
    Ok(())
}

/// Starts or cancels the workflow of an operation that another host has accepted; both do nothing the second time.
async fn take_up(app: &App, id: OperationId) -> Result<(), OpError> {
    if app.engine().is_none() {
        return Ok(());
    }
    let Some(operation) = app.db.operation(id).await? else {
        return Ok(());
    };
    match operation.state {
        OperationState::Running => app.start_workflow(&operation).await,
        // One that nobody heard is asked for again by the watch over workflows.
        OperationState::Undoing => app.cancel_workflow(&operation, "cancelled").await.map(drop),
        OperationState::Succeeded | OperationState::Failed | OperationState::Cancelled => Ok(()),
    }
}
