//! Statements, values and rows with the same interface for both databases.
//!
//! The store's functions bind and read through these three types, so that each is compiled once instead of once per
//! driver, and so that an invalid row always names its table, column and id. Only db.rs and `Row` use the drivers.

use std::borrow::Cow;
use std::str::FromStr;

use host_domain::time::Millis;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Database, Decode, Encode, Postgres, Row as _, Sqlite, Type};

use super::error::StoreError;
use super::tables::Kind;

/// A value to bind: one of the three column types that both databases share.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// TEXT.
    Text(Option<String>),
    /// INTEGER or BIGINT.
    Int(Option<i64>),
    /// BLOB or BYTEA.
    Bytes(Vec<u8>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        // PostgreSQL allows no NUL in text, but the output of programs may contain it.
        Self::Text(Some(text.replace('\0', "\u{fffd}")))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        i64::from(number).into()
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        i64::from(flag).into()
    }
}

impl From<Millis> for Value {
    fn from(at: Millis) -> Self {
        at.0.into()
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Int(number)
    }
}

impl From<Option<Millis>> for Value {
    fn from(at: Option<Millis>) -> Self {
        Self::Int(at.map(|at| at.0))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        text.map_or(Self::Text(None), Self::from)
    }
}

macro_rules! ids {
    ($($name:ident),+) => {$(
        impl From<host_domain::ids::$name> for Value {
            fn from(id: host_domain::ids::$name) -> Self { Self::Text(Some(id.to_string())) }
        }
        impl From<Option<host_domain::ids::$name>> for Value {
            fn from(id: Option<host_domain::ids::$name>) -> Self { Self::Text(id.map(|id| id.to_string())) }
        }
    )+};
}
ids! {
    NodeId, SubscriptionId, MachineId, AgentId, CommandId, IncidentId, EventId, OperationId, NotificationId, RevisionId, KeyId,
    ApiKeyId
}

/// A value stored as JSON text.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Value {
    // Can't fail: our types have string keys and no custom `Serialize` that returns errors.
    serde_json::to_string(value)
        .expect("plain data is JSON")
        .into()
}

/// A value stored as JSON text, or NULL.
pub(super) fn json_opt<T: Serialize>(value: Option<&T>) -> Value {
    value.map_or(Value::Text(None), json)
}

/// A statement with its values.
#[derive(Debug)]
pub(super) struct Stmt {
    sql: Cow<'static, str>,
    values: Vec<Value>,
    /// Whether the connection should cache the prepared statement.
    is_prepared: bool,
}

/// A statement from its fixed text.
pub(super) fn sql(text: &'static str) -> Stmt {
    Stmt {
        sql: Cow::Borrowed(text),
        values: Vec::new(),
        is_prepared: true,
    }
}

/// A statement whose table and column names come from the program or the schema, never from a value.
pub(super) fn owned_sql(text: String) -> Stmt {
    Stmt {
        sql: Cow::Owned(text),
        values: Vec::new(),
        is_prepared: false,
    }
}

impl Stmt {
    /// Binds the next `$n`.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Replaces the first `{}` by a list: `($3, $4), ($5, $6)`, numbered after the bound values. No value ever
    /// becomes part of the text.
    pub(super) fn list(mut self, rows: impl IntoIterator<Item = Vec<Value>>) -> Self {
        let mut list = String::new();
        for row in rows {
            // Lists of one are the most frequent and have a constant text; longer ones vary.
            self.is_prepared &= list.is_empty();
            list.push_str(if list.is_empty() { "(" } else { ", (" });
            for (place, value) in row.into_iter().enumerate() {
                self.values.push(value);
                list.push_str(if place == 0 { "$" } else { ", $" });
                list.push_str(&self.values.len().to_string());
            }
            list.push(')');
        }
        self.sql = Cow::Owned(self.sql.replacen("{}", &list, 1));
        self
    }

    /// The statement for the driver.
    pub(super) fn query<DB>(self) -> sqlx::query::Query<'static, DB, DB::Arguments>
    where
        DB: Database + sqlx::database::HasStatementCache,
        Option<String>: for<'q> Encode<'q, DB> + Type<DB>,
        Option<i64>: for<'q> Encode<'q, DB> + Type<DB>,
        Vec<u8>: for<'q> Encode<'q, DB> + Type<DB>,
    {
        let mut query = match self.sql {
            Cow::Borrowed(text) => sqlx::query::<DB>(text),
            // Built by `list` from a fixed text and numbers, or from names of the schema.
            Cow::Owned(text) => sqlx::query::<DB>(AssertSqlSafe(text)).persistent(self.is_prepared),
        };
        for value in self.values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Int(number) => query.bind(number),
                Value::Bytes(bytes) => query.bind(bytes),
            };
        }
        query
    }
}

/// A row of either database.
pub(super) enum Row {
    /// From SQLite.
    Sqlite(SqliteRow),
    /// From PostgreSQL.
    Postgres(PgRow),
}

/// An invalid column, before table and id are known.
#[derive(Debug)]
pub(super) struct BadColumn {
    column: &'static str,
    why: String,
}

impl BadColumn {
    /// A column with an invalid value.
    pub(super) fn new(column: &'static str, why: impl ToString) -> Self {
        Self {
            column,
            why: why.to_string(),
        }
    }

    /// The error for a row whose key is unknown.
    pub(super) fn of(self, table: &'static str) -> StoreError {
        StoreError::Corrupt {
            table,
            column: self.column,
            id: "?".to_owned(),
            why: self.why,
        }
    }
}

/// A noun that is read from rows of one table; the first column of the row is its key.
pub(super) trait FromRow: Sized {
    /// The table.
    const TABLE: &'static str;

    /// Converts a row.
    fn from_row(row: &Row) -> Result<Self, BadColumn>;
}

impl Row {
    /// Converts a row, or returns an error that names the invalid row and table.
    pub(super) fn read<T: FromRow>(&self) -> Result<T, StoreError> {
        T::from_row(self).map_err(|bad| StoreError::Corrupt {
            table: T::TABLE,
            column: bad.column,
            id: self.key(),
            why: bad.why,
        })
    }

    /// The first column as text, whatever its type.
    fn key(&self) -> String {
        let (text, number) = match self {
            Self::Sqlite(row) => (row.try_get::<String, _>(0), row.try_get::<i64, _>(0)),
            Self::Postgres(row) => (row.try_get::<String, _>(0), row.try_get::<i64, _>(0)),
        };
        text.or_else(|_| number.map(|number| number.to_string()))
            .unwrap_or_else(|_| "?".to_owned())
    }

    fn get<T>(&self, column: &'static str) -> Result<T, BadColumn>
    where
        T: for<'r> Decode<'r, Sqlite>
            + Type<Sqlite>
            + for<'r> Decode<'r, Postgres>
            + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| BadColumn::new(column, error))
    }

    /// A column by its position.
    pub(super) fn cell(&self, at: usize, kind: Kind) -> Result<Value, BadColumn> {
        fn get<T>(row: &Row, at: usize) -> Result<T, BadColumn>
        where
            T: for<'r> Decode<'r, Sqlite>
                + Type<Sqlite>
                + for<'r> Decode<'r, Postgres>
                + Type<Postgres>,
        {
            match row {
                Row::Sqlite(row) => row.try_get(at),
                Row::Postgres(row) => row.try_get(at),
            }
            .map_err(|error| BadColumn::new("(any)", error))
        }
        Ok(match kind {
            Kind::Text => Value::Text(get(self, at)?),
            Kind::Int => Value::Int(get(self, at)?),
            Kind::Bytes => Value::Bytes(get(self, at)?),
        })
    }

    pub(super) fn text(&self, column: &'static str) -> Result<String, BadColumn> {
        self.get(column)
    }

    pub(super) fn text_opt(&self, column: &'static str) -> Result<Option<String>, BadColumn> {
        self.get(column)
    }

    pub(super) fn int(&self, column: &'static str) -> Result<i64, BadColumn> {
        self.get(column)
    }

    pub(super) fn int_opt(&self, column: &'static str) -> Result<Option<i64>, BadColumn> {
        self.get(column)
    }

    pub(super) fn count(&self, column: &'static str) -> Result<u32, BadColumn> {
        u32::try_from(self.int(column)?).map_err(|error| BadColumn::new(column, error))
    }

    pub(super) fn flag(&self, column: &'static str) -> Result<bool, BadColumn> {
        Ok(self.int(column)? != 0)
    }

    pub(super) fn bytes(&self, column: &'static str) -> Result<Vec<u8>, BadColumn> {
        self.get(column)
    }

    pub(super) fn millis(&self, column: &'static str) -> Result<Millis, BadColumn> {
        self.int(column).map(Millis)
    }

    pub(super) fn millis_opt(&self, column: &'static str) -> Result<Option<Millis>, BadColumn> {
        Ok(self.int_opt(column)?.map(Millis))
    }

    /// A value with a text form: an id.
    pub(super) fn parsed<T: FromStr>(&self, column: &'static str) -> Result<T, BadColumn>
    where
        T::Err: ToString,
    {
        self.text(column)?
            .parse()
            .map_err(|error: T::Err| BadColumn::new(column, error.to_string()))
    }

    pub(super) fn parsed_opt<T: FromStr>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, BadColumn>
    where
        T::Err: ToString,
    {
        let parse = |text: String| {
            text.parse()
                .map_err(|error: T::Err| BadColumn::new(column, error.to_string()))
        };
        self.text_opt(column)?.map(parse).transpose()
    }

    /// A name of a closed set.
    pub(super) fn named<T>(
        &self,
        column: &'static str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<T, BadColumn> {
        let name = self.text(column)?;
        parse(&name).ok_or_else(|| BadColumn::new(column, format!("`{name}` is not a known name")))
    }

    /// JSON text.
    pub(super) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, BadColumn> {
        serde_json::from_str(&self.text(column)?).map_err(|error| BadColumn::new(column, error))
    }

    pub(super) fn json_opt<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, BadColumn> {
        let parse = |text: String| {
            serde_json::from_str(&text).map_err(|error| BadColumn::new(column, error))
        };
        self.text_opt(column)?.map(parse).transpose()
    }
}

/// A single number: a version, a count, a sequence number.
pub(super) struct Number(pub(super) i64);

impl FromRow for Number {
    const TABLE: &'static str = "(computed)";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        row.int("number").map(Self)
    }
}
