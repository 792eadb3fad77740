//! The configuration that a host starts with: the folder, or the last version of it that worked.
//!
//! With an invalid folder, the host starts with the last working version, so that it keeps watching its nodes. A host that never
//! had a valid folder exits with an error, which the operator who is setting it up reads.

use std::path::PathBuf;

use super::{Reload, ReloadError};
use crate::chains::{ChainFolder, LastGood};
use crate::ops::OpError;

impl Reload {
    /// Reads the folder at startup. An invalid folder raises an incident, and the host starts with the last working version.
    pub(crate) async fn run_first(&self) -> Result<(), ReloadError> {
        let _one_at_a_time = self.lock.lock().await;
        let last_good = self.last_good();
        let found = tokio::task::spawn_blocking(move || last_good.folder());
        let last_good = found.await.map_err(OpError::internal)?;
        let outcome = self.start_with_folder(last_good.is_some()).await;
        match (outcome, last_good) {
            (Ok(()), _) => self.report_folder(None).await,
            (Err(error @ (ReloadError::Config(_) | ReloadError::Plugin(_))), Some(kept)) => {
                tracing::warn!("{error}");
                let Ok(kept) = self.read_folder(kept, None).await else {
                    return Err(error);
                };
                // It worked once: a plugin of it that fails now raises its own incident, and the rest works.
                self.switch_to(kept, true).await?;
                self.report_folder(Some(&error)).await
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Without a last good version a plugin that can't be loaded is broken, and the rest works.
    async fn start_with_folder(&self, has_last_good: bool) -> Result<(), ReloadError> {
        let folder = self.read_configured_folder().await?;
        self.switch_to(folder, !has_last_good).await
    }

    /// Keeps a folder that was switched to, and says where its components lie from now on.
    pub(super) async fn keep(&self, folder: &ChainFolder) -> PathBuf {
        let (last_good, options) = (self.last_good(), self.validate_options());
        let read = folder.clone();
        let kept = tokio::task::spawn_blocking(move || last_good.keep(&read, options)).await;
        match kept {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the configuration works but is not kept for the next start; check the disk");
                folder.root.clone()
            }
            Err(error) => {
                tracing::warn!(%error, "keeping the configuration broke off");
                folder.root.clone()
            }
        }
    }

    fn last_good(&self) -> LastGood {
        LastGood::of(&self.state_dir)
    }
}
