//! The tables in the order of an export: every row comes before the rows that refer to it.

use super::db::Tx;
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, sql};

/// A table and the columns that order its rows.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) key: &'static [&'static str],
}

macro_rules! tables {
    ($($name:ident($($key:ident),+)),+ $(,)?) => {
        /// Every table of the schema.
        pub(super) const TABLES: &[Table] = &[
            $(Table { name: stringify!($name), key: &[$(stringify!($key)),+] }),+
        ];
    };
}

tables! {
    meta(name),
    leader_epochs(name),
    machines(id),
    agents(id),
    subscriptions(id),
    subscription_payments(payment_id),
    nodes(id),
    machine_claims(machine_id),
    enrolment_tokens(hash),
    node_heartbeats(node_id),
    node_health_state(node_id),
    node_events(id),
    node_keys(id),
    health_event_outbox(seq),
    dead_letters(id),
    bus_outbox(seq),
    event_log_head(id),
    event_log(seq),
    incidents(id),
    incident_events(id),
    notifications(id),
    notification_incidents(notification_id, incident_id),
    observations(node_id, name, at),
    observation_latest(node_id, name),
    commands(seq),
    operations(id),
    node_migrations(operation_id),
    plugin_revisions(id),
    plugin_kv(plugin, node_id, key),
    api_keys(id),
    idempotency_keys(principal, key),
    audit_log(seq),
}

/// Tables with a PostgreSQL sequence.
pub(super) const COUNTED: &[&str] = &["health_event_outbox", "bus_outbox", "commands", "audit_log"];

/// The type of a column: one of the three that both databases share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    Bytes,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
}

impl FromRow for Column {
    const TABLE: &'static str = "(schema)";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        let kind = match row.text("kind")?.to_ascii_lowercase().as_str() {
            "text" => Kind::Text,
            "integer" | "bigint" => Kind::Int,
            "blob" | "bytea" => Kind::Bytes,
            other => return Err(BadColumn::new("kind", format!("`{other}` is not known"))),
        };
        let name = row.text("name")?;
        Ok(Self { name, kind })
    }
}

struct Name(String);

impl FromRow for Name {
    const TABLE: &'static str = "(schema)";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        row.text("name").map(Self)
    }
}

impl Tx {
    /// The columns of a table, sorted by name. Each database lists them in a different place.
    pub(super) async fn columns(&self, table: &str) -> Result<Vec<Column>, StoreError> {
        const SQLITE: &str =
            "SELECT name, type AS kind FROM pragma_table_info($1) ORDER BY name LIMIT 1000";
        const POSTGRES: &str =
            "SELECT CAST(column_name AS text) AS name, CAST(data_type AS text) AS kind
            FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1 LIMIT 1000";
        let text = if self.is_sqlite() { SQLITE } else { POSTGRES };
        let mut columns: Vec<Column> = self.all(sql(text).bind(table)).await?;
        // Sorted here, because the databases use different collations.
        columns.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(columns)
    }

    /// Tables of the schema that are not in [`TABLES`]: an export without them would be incomplete.
    pub(super) async fn unknown_tables(&self) -> Result<Vec<String>, StoreError> {
        const SQLITE: &str = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' LIMIT 1000";
        const POSTGRES: &str = "SELECT CAST(tablename AS text) AS name FROM pg_tables WHERE schemaname = current_schema() LIMIT 1000";
        let text = if self.is_sqlite() { SQLITE } else { POSTGRES };
        let names: Vec<Name> = self.all(sql(text)).await?;
        let is_known = |name: &str| {
            name == "_sqlx_migrations" || TABLES.iter().any(|table| table.name == name)
        };
        let unknown = names.into_iter().map(|Name(name)| name);
        Ok(unknown.filter(|name| !is_known(name)).collect())
    }
}
