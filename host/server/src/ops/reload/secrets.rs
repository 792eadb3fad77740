//! Retries plugin secrets that can't be read, such as those of a vault that was unavailable at startup.

use super::{Reload, ReloadError};

impl Reload {
    /// Reads the values again while one can't be read, and reloads when that changes.
    pub(crate) async fn retry_secrets(&self) -> Result<(), ReloadError> {
        let before = self.secrets.unread();
        if before.is_empty() {
            return Ok(());
        }
        self.secrets.refresh().await;
        if self.secrets.unread() != before {
            self.run().await?;
        }
        Ok(())
    }
}
