//! Retries plugin secrets that can't be read, such as those of a vault that was unavailable at startup.

use super::ReloadError;
use crate::app::App;

/// Reads the values again while one can't be read, and reloads when that changes.
pub(crate) async fn round(app: App) -> Result<(), ReloadError> {
    let before = app.secrets.unread();
    if before.is_empty() {
        return Ok(());
    }
    app.secrets.refresh().await;
    if app.secrets.unread() != before {
        app.reload_catalogue().await?;
    }
    Ok(())
}
