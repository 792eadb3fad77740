//! Leaders' epochs: each tenure has a higher one, and a write by an older one is refused (design: domain.md, Leader election).

use host_domain::time::Millis;

use super::db::Tx;
use super::error::StoreError;
use super::sql::sql;

/// What a leader's transactions prove: that this is still the newest tenure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// What is led.
    pub name: String,
    /// The tenure.
    pub epoch: i64,
}

impl Tx {
    /// Begins a tenure and gives its epoch; from its commit on, writes of earlier tenures are refused.
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

    /// Refuses (`Fenced`) the transaction of a leader whose tenure is over. A new tenure waits until this transaction has
    /// ended.
    pub async fn check_leader_epoch(&mut self, name: &str, epoch: i64) -> Result<(), StoreError> {
        const SQLITE: &str =
            "SELECT epoch AS number FROM leader_epochs WHERE name = $1 AND epoch = $2";
        // A lock that the leader's transactions share and a new tenure's update waits for. SQLite knows no such clause and
        // needs none: this transaction is its only writer.
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
