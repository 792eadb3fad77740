//! Watches the configuration folder: a change that has settled is read, checked and switched to, or rejected with its reasons.

use std::path::Path;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::app::App;

/// How long a folder that can't be watched is left alone.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Watches until the app ends. Where the system can't watch, a reload by hand remains.
pub(crate) async fn run(app: App) {
    // One place is enough: a full channel already says that something changed.
    let (changed, mut changes) = mpsc::channel::<()>(1);
    let Some(_watcher) = watch_at_last(&app, changed).await else {
        return;
    };
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            change = changes.recv() => if change.is_none() { return },
        }
        settle(&app, &mut changes).await;
        match app.reload_catalogue().await {
            Ok(()) => tracing::info!("the configuration folder was read again"),
            Err(error) => tracing::warn!("{error}"),
        }
    }
}

/// Watches as soon as it can: a host that started with its last good configuration may have no folder yet.
async fn watch_at_last(app: &App, changed: mpsc::Sender<()>) -> Option<impl Watcher> {
    let mut is_told = false;
    loop {
        match watch(&app.config.chains.dir, changed.clone()) {
            Ok(watcher) => {
                if is_told {
                    // What came before it was watched is a change too.
                    let _ = changed.try_send(());
                }
                drop(changed);
                return Some(watcher);
            }
            Err(error) if !is_told => {
                is_told = true;
                tracing::warn!(
                    "the configuration folder can't be watched ({error}); until it can, use `bellwether plugin reload`"
                );
            }
            Err(_) => {}
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return None,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

/// Waits until nothing has changed for a while: an editor or a copy writes more than once.
async fn settle(app: &App, changes: &mut mpsc::Receiver<()>) {
    let quiet = app.config.chains.settle;
    while let Ok(Some(())) = tokio::time::timeout(quiet, changes.recv()).await {}
}

fn watch(dir: &Path, changed: mpsc::Sender<()>) -> notify::Result<impl Watcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = changed.try_send(());
        }
    })?;
    watcher.watch(dir, RecursiveMode::Recursive)?;
    Ok(watcher)
}
