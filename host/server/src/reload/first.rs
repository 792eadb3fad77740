//! The configuration that a host starts with: the folder, or the last version of it that worked.
//!
//! A folder that is wrong must not keep a host from watching its nodes. Only a host that never had a right one can't
//! start: it would have nothing to do, and an operator who just set it up is there to read why.

use std::path::PathBuf;

use super::ReloadError;
use crate::app::App;
use crate::chains::{ChainFolder, LastGood};
use crate::ops::OpError;

impl App {
    /// Reads the folder at the start of the host. What is wrong with it is an incident, and the last good one goes on.
    pub(crate) async fn load_first_catalogue(&self) -> Result<(), ReloadError> {
        let _one_at_a_time = self.reloading.lock().await;
        let last_good = self.last_good();
        let found = tokio::task::spawn_blocking(move || last_good.folder());
        let last_good = found.await.map_err(OpError::internal)?;
        let outcome = self.start_with_folder(last_good.is_some()).await;
        match (outcome, last_good) {
            (Ok(()), _) => self.tell_of_folder(None).await,
            (Err(error @ (ReloadError::Config(_) | ReloadError::Plugin(_))), Some(kept)) => {
                tracing::warn!("{error}");
                let Ok(kept) = self.read_folder(kept, None).await else {
                    return Err(error);
                };
                // It worked once: what of it does not any more is told by itself, and the rest goes on.
                self.switch_to(kept, true).await?;
                self.tell_of_folder(Some(&error)).await
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
        LastGood::of(&self.config.state_dir)
    }
}
