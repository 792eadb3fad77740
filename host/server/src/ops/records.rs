//! The rows of the installation and the time: what every use case reads and writes.

use std::sync::Arc;

use host_domain::time::{Clock, Millis};
use host_store::{Db, Fence};

/// The database connections of one role, the clock, and the name of this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Records {
    pub(crate) db: Db,
    pub(crate) clock: Arc<dyn Clock>,
    /// Names this process where it claims rows.
    pub(crate) worker: Arc<str>,
}

impl Records {
    /// The current time.
    pub(crate) fn now(&self) -> Millis {
        self.clock.now()
    }

    /// The same records for one tenure of a leader: the database rejects its writes once another leader has taken over.
    pub(crate) fn fenced(&self, fence: Fence) -> Self {
        Self {
            db: self.db.fenced(fence),
            ..self.clone()
        }
    }
}
