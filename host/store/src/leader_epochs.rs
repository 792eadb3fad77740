//! Leaders' epochs: each new leader gets a higher one, and writes of an older epoch are rejected.

use host_domain::time::Millis;

use super::db::Tx;
use super::error::StoreError;
use super::sql::sql;

/// What each transaction of a leader verifies: that its epoch is still the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The name of the leadership.
    pub name: String,
    /// The epoch.
    pub epoch: i64,
}

impl Tx {
    /// Starts a new epoch and returns it; from its commit on, writes of earlier epochs are rejected.
    pub async fn take_leader_epoch(
        &mut self,
        name: &str,
        holder: &str,
        at: Millis,
    ) -> Result<i64, StoreError> {
        const SQL: &str = "INSERT INTO leader_epochs (name, epoch, holder, taken_at) VALUES ($1, 1, $2, $3)
            ON CONFLICT (name) DO UPDATE SET epoch = leader_epochs.epoch + 1, holder = excluded.holder,
                taken_at = excluded.taken_at
            RETURNING epoch AS number";
        Ok(self
            .number(sql(SQL).bind(name).bind(holder).bind(at))
            .await?
            .unwrap_or(1))
    }

    /// Fails with `Fenced` when the leader's epoch is over. A new epoch waits until this transaction has ended.
    pub async fn check_leader_epoch(&mut self, name: &str, epoch: i64) -> Result<(), StoreError> {
        const SQLITE: &str =
            "SELECT epoch AS number FROM leader_epochs WHERE name = $1 AND epoch = $2";
        // The leader's transactions share a row lock that a new epoch's update waits for. SQLite has no such clause
        // and needs none: this transaction is its only writer.
        const POSTGRES: &str =
            "SELECT epoch AS number FROM leader_epochs WHERE name = $1 AND epoch = $2 FOR SHARE";
        let text = if self.is_sqlite() { SQLITE } else { POSTGRES };
        match self.number(sql(text).bind(name).bind(epoch)).await? {
            Some(_) => Ok(()),
            None => Err(StoreError::Fenced {
                name: name.to_owned(),
                epoch,
            }),
        }
    }
}
