//! Watches the configuration folder: a change that has settled is read, checked and switched to, or rejected with its reasons.

use std::path::Path;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::app::App;

/// Watches until the app ends. Where the system can't watch, a reload by hand remains.
pub(crate) async fn run(app: App) {
    // One place is enough: a full channel already says that something changed.
    let (changed, mut changes) = mpsc::channel::<()>(1);
    let watched = watch(&app.config.chains.dir, changed);
    let _watcher = match watched {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(
                "the configuration folder can't be watched ({error}); use `bellwether plugin reload`"
            );
            return;
        }
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
