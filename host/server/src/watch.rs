//! Watches the configuration folder: a change that has settled is read, checked and switched to, or rejected with its reasons.

use std::path::Path;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::ChainsConfig;
use crate::ops::Reload;

/// Pause before the next attempt to watch the folder.
const RETRY: Duration = Duration::from_secs(5);

/// Watches until the host stops. If the system can't watch the folder, operators reload it manually.
pub(crate) async fn run(reload: Reload, config: ChainsConfig, shutdown: CancellationToken) {
    // One place is enough: a full channel already says that something changed.
    let (changed, mut changes) = mpsc::channel::<()>(1);
    let Some(_watcher) = watch_when_possible(&config.dir, changed, &shutdown).await else {
        return;
    };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.recv() => if change.is_none() { return },
        }
        settle(&config, &mut changes).await;
        match reload.run().await {
            Ok(()) => tracing::info!("the configuration folder was read again"),
            Err(error) => tracing::warn!("{error}"),
        }
    }
}

/// Watches as soon as it can: a host that started with its last good configuration may have no folder yet.
async fn watch_when_possible(
    dir: &Path,
    changed: mpsc::Sender<()>,
    shutdown: &CancellationToken,
) -> Option<impl Watcher> {
    let mut was_warned = false;
    loop {
        match watch(dir, changed.clone()) {
            Ok(watcher) => {
                if was_warned {
                    // What came before it was watched is a change too.
                    let _ = changed.try_send(());
                }
                drop(changed);
                return Some(watcher);
            }
            Err(error) if !was_warned => {
                was_warned = true;
                tracing::warn!(
                    "the configuration folder can't be watched ({error}); until it can, use `bellwether plugin reload`"
                );
            }
            Err(_) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Waits until nothing has changed for a while: an editor or a copy writes more than once.
async fn settle(config: &ChainsConfig, changes: &mut mpsc::Receiver<()>) {
    let quiet = config.settle;
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
