//! Feeds live streams from the log: whatever any process committed is told here once, in order.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::app::App;
use crate::ops::{LiveEvent, OpError};

/// Rows that are read at once.
const PAGE: u32 = 500;

/// Tells everything after the last told number.
pub(crate) async fn round(app: App, told: &AtomicI64) -> Result<(), OpError> {
    loop {
        let rows = app
            .db
            .event_log_after(told.load(Ordering::Acquire), PAGE)
            .await?;
        let Some(newest) = rows.last().map(|row| row.seq) else {
            return Ok(());
        };
        for row in rows {
            if let Some(event) = LiveEvent::read(row) {
                app.events.send(event);
            }
        }
        told.store(newest, Ordering::Release);
    }
}
