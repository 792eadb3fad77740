//! Exports a whole database as lines of text and imports it, with counts and digests of every table.
//!
//! The text is the same for both databases. Rows are read page by page; a digest is a sum over its rows, so it does
//! not depend on their order. An import reads everything back and compares it before it commits all or nothing.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::db::{Db, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, Row, Value, owned_sql, sql};
use super::tables::{COUNTED, Column, Kind, TABLES, Table};

/// The number of rows per read or write.
const PAGE: usize = 500;
/// The version of the text format.
const FORM: i64 = 1;

/// Why an export or import failed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file failed.
    #[error("the host could not read or write the file of the export")]
    File(#[from] std::io::Error),
    /// The text is not a complete export.
    #[error("line {line} of the export: {what}; export again and import the new file")]
    Text {
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The target contains rows.
    #[error(
        "table `{table}` is not empty; import into a new database after `bellwether migrate`, before any host has used it"
    )]
    NotEmpty {
        /// The table.
        table: &'static str,
    },
    /// Program, database and file have different versions.
    #[error("{0}")]
    Schema(String),
}

/// The count and digest of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSum {
    /// The table.
    pub table: &'static str,
    /// Its rows.
    pub rows: u64,
    /// A sum over its rows.
    pub digest: String,
}

#[derive(Default)]
struct Sum {
    rows: u64,
    digest: u128,
}

impl Sum {
    fn add(&mut self, row: &str) {
        let hash = Sha256::digest(row.as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&hash[..16]);
        self.digest = self.digest.wrapping_add(u128::from_be_bytes(first));
        self.rows += 1;
    }

    fn of(self, table: &'static str) -> TableSum {
        TableSum {
            table,
            rows: self.rows,
            digest: format!("{:032x}", self.digest),
        }
    }
}

impl Db {
    /// Writes every row as lines of text, from one snapshot.
    pub async fn export(
        &self,
        write: &mut (dyn FnMut(&str) -> std::io::Result<()> + Send),
    ) -> Result<Vec<TableSum>, TransferError> {
        let schema = self.schema_version().await?;
        let tx = self.begin().await?;
        if !tx.is_sqlite() {
            // A SQLite transaction always reads one snapshot.
            tx.execute(sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
                .await?;
        }
        if let Some(unknown) = tx.unknown_tables().await?.first() {
            return Err(TransferError::Schema(format!(
                "this program does not know table `{unknown}`; export with the program that created the database"
            )));
        }
        write(&json!({ "bellwether_export": FORM, "schema": schema }).to_string())?;
        let mut sums = Vec::new();
        for table in TABLES {
            let columns = tx.columns(table.name).await?;
            let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
            write(&json!({ "table": table.name, "columns": names }).to_string())?;
            let sum = tx.each_row(table, &columns, write).await?.of(table.name);
            write(&end_of(&sum).to_string())?;
            sums.push(sum);
        }
        write(&json!({ "complete": true }).to_string())?;
        tx.rollback().await?;
        Ok(sums)
    }

    /// Imports the lines of an export into an empty database, all or nothing.
    pub async fn import(
        &self,
        lines: &mut (dyn Iterator<Item = std::io::Result<String>> + Send),
    ) -> Result<Vec<TableSum>, TransferError> {
        let schema = self.schema_version().await?;
        let mut lines = Lines { lines, number: 0 };
        let head = lines.next_json()?;
        if head["bellwether_export"] != json!(FORM) {
            return Err(lines.wrong("the file does not start like an export"));
        }
        if head["schema"] != json!(schema) {
            return Err(TransferError::Schema(format!(
                "the export has schema version {}, the database {schema}; migrate both to one version with `bellwether migrate`",
                head["schema"]
            )));
        }
        let mut tx = self.begin().await?;
        tx.refuse_rows().await?;
        let mut sums = Vec::new();
        for table in TABLES {
            sums.push(tx.import_table(table, &mut lines).await?);
        }
        if lines.next_json()?["complete"] != json!(true) {
            return Err(lines.wrong("the end of the export is missing"));
        }
        tx.count_on().await?;
        tx.commit().await?;
        Ok(sums)
    }
}

impl Tx {
    /// Calls back with every row as text, page by page, in the order of the key.
    async fn each_row(
        &self,
        table: &Table,
        columns: &[Column],
        tell: &mut (dyn FnMut(&str) -> std::io::Result<()> + Send),
    ) -> Result<Sum, TransferError> {
        let names = quoted(columns.iter().map(|column| &*column.name));
        let key = quoted(table.key.iter().copied());
        let mut sum = Sum::default();
        let mut after: Option<Vec<Value>> = None;
        loop {
            let from = if after.is_some() {
                format!("WHERE ({key}) > {{}}")
            } else {
                String::new()
            };
            let text = format!(
                "SELECT {names} FROM {} {from} ORDER BY {key} LIMIT {PAGE}",
                table.name
            );
            let rows = self.rows(owned_sql(text).list(after.take())).await?;
            for row in &rows {
                let text = row_text(row, table, columns)?;
                sum.add(&text);
                tell(&text)?;
            }
            let Some(last) = rows.last().filter(|_| rows.len() == PAGE) else {
                return Ok(sum);
            };
            let place = |name: &&str| columns.iter().position(|column| column.name == **name);
            let cells = table.key.iter().filter_map(place);
            let cells = cells.map(|at| last.cell(at, columns[at].kind));
            after = Some(
                cells
                    .collect::<Result<_, _>>()
                    .map_err(|bad| corrupt(table, bad))?,
            );
        }
    }

    async fn refuse_rows(&mut self) -> Result<(), TransferError> {
        for table in TABLES {
            // The schema inserts one row here, which the export contains too.
            if table.name == "event_log_head" {
                self.execute(sql("DELETE FROM event_log_head")).await?;
                continue;
            }
            let text = format!(
                "SELECT count(*) AS number FROM (SELECT 1 FROM {} LIMIT 1) AS found",
                table.name
            );
            if self.number(owned_sql(text)).await? != Some(0) {
                return Err(TransferError::NotEmpty { table: table.name });
            }
        }
        Ok(())
    }

    /// Writes one table, reads it back, and compares.
    async fn import_table(
        &mut self,
        table: &'static Table,
        lines: &mut Lines<'_>,
    ) -> Result<TableSum, TransferError> {
        let columns = self.columns(table.name).await?;
        let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
        if lines.next_json()? != json!({ "table": table.name, "columns": names }) {
            return Err(lines.wrong(format!(
                "this line is not the start of table `{}`",
                table.name
            )));
        }
        let into = quoted(names.iter().copied());
        let mut page = Vec::new();
        let end = loop {
            let line = lines.next_json()?;
            let is_row = line.is_array();
            if let Json::Array(cells) = &line {
                page.push(
                    bound(cells, &columns).ok_or_else(|| lines.wrong("this line is not a row"))?,
                );
            }
            if page.len() == PAGE || (!is_row && !page.is_empty()) {
                let text = format!("INSERT INTO {} ({into}) VALUES {{}}", table.name);
                self.execute(owned_sql(text).list(page.drain(..))).await?;
            }
            if !is_row {
                break line;
            }
        };
        let sum = self.each_row(table, &columns, &mut |_| Ok(())).await?;
        let sum = sum.of(table.name);
        if end != end_of(&sum) {
            return Err(lines.wrong(format!(
                "table `{}` has {} rows with digest {} after the import, which differs from the export",
                table.name, sum.rows, sum.digest
            )));
        }
        Ok(sum)
    }

    /// Sets PostgreSQL's sequences after the imported rows. SQLite derives the next number from its rows.
    async fn count_on(&mut self) -> Result<(), StoreError> {
        if self.is_sqlite() {
            return Ok(());
        }
        for table in COUNTED {
            let text = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', 'seq'), (SELECT COALESCE(max(seq), 0) + 1 FROM {table}), false) AS number"
            );
            self.number(owned_sql(text)).await?;
        }
        Ok(())
    }
}

struct Lines<'a> {
    lines: &'a mut (dyn Iterator<Item = std::io::Result<String>> + Send),
    number: u64,
}

impl Lines<'_> {
    fn next_json(&mut self) -> Result<Json, TransferError> {
        self.number += 1;
        let Some(line) = self.lines.next() else {
            return Err(self.wrong("the file ends too early"));
        };
        serde_json::from_str(&line?).map_err(|error| self.wrong(error.to_string()))
    }

    fn wrong(&self, what: impl Into<String>) -> TransferError {
        let (line, what) = (self.number, what.into());
        TransferError::Text { line, what }
    }
}

fn end_of(sum: &TableSum) -> Json {
    json!({ "end": sum.table, "rows": sum.rows, "digest": sum.digest })
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut list = String::new();
    for name in names {
        let comma = if list.is_empty() { "" } else { ", " };
        // Writing to a String can't fail.
        let _ = write!(list, "{comma}\"{name}\"");
    }
    list
}

fn corrupt(table: &Table, bad: BadColumn) -> StoreError {
    bad.of(table.name)
}

fn row_text(row: &Row, table: &Table, columns: &[Column]) -> Result<String, StoreError> {
    let mut cells = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        let value = row
            .cell(at, column.kind)
            .map_err(|bad| corrupt(table, bad))?;
        cells.push(match value {
            Value::Text(text) => json!(text),
            Value::Int(number) => json!(number),
            Value::Bytes(bytes) => json!(STANDARD.encode(bytes)),
        });
    }
    Ok(Json::Array(cells).to_string())
}

/// The values of a row, if they match the columns' types.
fn bound(cells: &[Json], columns: &[Column]) -> Option<Vec<Value>> {
    if cells.len() != columns.len() {
        return None;
    }
    let bind = |(cell, column): (&Json, &Column)| match (column.kind, cell) {
        (Kind::Text, Json::Null) => Some(Value::Text(None)),
        (Kind::Int, Json::Null) => Some(Value::Int(None)),
        (Kind::Text, Json::String(text)) => Some(Value::Text(Some(text.clone()))),
        (Kind::Int, Json::Number(number)) => number.as_i64().map(|number| Value::Int(Some(number))),
        (Kind::Bytes, Json::String(text)) => STANDARD.decode(text).ok().map(Value::Bytes),
        _ => None,
    };
    cells.iter().zip(columns).map(bind).collect()
}
