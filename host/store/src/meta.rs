//! Values that belong to the whole installation, such as its id.

use super::db::Tx;
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, sql};

struct Meta(String);

impl FromRow for Meta {
    const TABLE: &'static str = "meta";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        row.text("value").map(Self)
    }
}

impl Tx {
    /// Sets a value unless there is one, and returns the stored value.
    pub async fn claim_meta(&mut self, name: &str, value: &str) -> Result<String, StoreError> {
        const SQL: &str = "INSERT INTO meta (name, value) VALUES ($1, $2)
            ON CONFLICT (name) DO UPDATE SET value = meta.value RETURNING name, value";
        let claimed = self.first::<Meta>(sql(SQL).bind(name).bind(value)).await?;
        Ok(claimed.map_or_else(|| value.to_owned(), |Meta(value)| value))
    }

    /// Sets a value.
    pub async fn set_meta(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO meta (name, value) VALUES ($1, $2)
            ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.execute(sql(SQL).bind(name).bind(value)).await?;
        Ok(())
    }
}
