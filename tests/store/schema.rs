//! The two schemas are one: tables, columns, types, nullability, keys and indexes; and a schema that does not fit is refused.

use std::collections::BTreeSet;

use host_store::{Db, DbOptions, StoreError};

use crate::support::database::TestDb;
use crate::support::postgres::Postgres;

const SQLITE: &str =
    "SELECT t.name, c.name, c.type, CAST(c.\"notnull\" AS TEXT), CAST(c.pk AS TEXT)
    FROM sqlite_master t, pragma_table_info(t.name) c
    WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> '_sqlx_migrations'";

const POSTGRES: &str = "SELECT c.table_name::text, c.column_name::text,
        CASE c.data_type WHEN 'bigint' THEN 'INTEGER' WHEN 'bytea' THEN 'BLOB' ELSE upper(c.data_type) END,
        CASE c.is_nullable WHEN 'NO' THEN '1' ELSE '0' END,
        COALESCE((SELECT k.ordinal_position::text FROM information_schema.key_column_usage k
            JOIN information_schema.table_constraints t ON t.constraint_name = k.constraint_name
            WHERE t.constraint_type = 'PRIMARY KEY' AND k.table_name = c.table_name AND k.column_name = c.column_name), '0')
    FROM information_schema.columns c
    WHERE c.table_schema = 'public' AND c.table_name <> '_sqlx_migrations'";

const SQLITE_INDEXES: &str =
    "SELECT name, CASE WHEN sql LIKE '%UNIQUE%' THEN '1' ELSE '0' END, CASE WHEN sql LIKE '% WHERE %' THEN '1' ELSE '0' END
    FROM sqlite_master WHERE type = 'index' AND name NOT LIKE 'sqlite_%'";

const POSTGRES_INDEXES: &str =
    "SELECT indexname::text, CASE WHEN indexdef LIKE '%UNIQUE%' THEN '1' ELSE '0' END,
        CASE WHEN indexdef LIKE '% WHERE %' THEN '1' ELSE '0' END
    FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE '%_pkey'";

#[tokio::test]
async fn both_databases_have_the_same_schema() {
    let Some(server) = Postgres::start().await else {
        return;
    };
    let (sqlite, postgres) = (TestDb::sqlite().await, server.database().await);
    for (on_sqlite, on_postgres) in [(SQLITE, POSTGRES), (SQLITE_INDEXES, POSTGRES_INDEXES)] {
        let one: BTreeSet<_> = sqlite.raw_rows(on_sqlite).await.into_iter().collect();
        let two: BTreeSet<_> = postgres.raw_rows(on_postgres).await.into_iter().collect();
        assert!(one.len() > 20, "the query found too little: {one:?}");
        assert_eq!(
            (
                one.difference(&two).collect::<Vec<_>>(),
                two.difference(&one).collect::<Vec<_>>()
            ),
            (vec![], vec![]),
            "left: only in SQLite; right: only in PostgreSQL"
        );
    }
    refuses_a_schema_that_does_not_fit(&postgres).await;
    let empty = Db::open(&server.empty_database().await, &DbOptions::default())
        .await
        .unwrap();
    refuses_an_empty_database(&empty).await;
}

#[tokio::test]
async fn sqlite_refuses_a_schema_that_does_not_fit() {
    refuses_a_schema_that_does_not_fit(&TestDb::sqlite().await).await;
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/empty.db", folder.path().display());
    refuses_an_empty_database(&Db::open(&url, &DbOptions::default()).await.unwrap()).await;
}

async fn refuses_a_schema_that_does_not_fit(test: &TestDb) {
    test.raw("UPDATE _sqlx_migrations SET version = 99 WHERE version = 1")
        .await;
    let pending = test.db.pending_migrations().await.map(drop);
    for refused in [
        test.db.check_schema().await,
        test.db.migrate().await,
        pending,
    ] {
        match refused {
            Err(StoreError::Schema(text)) => assert!(text.contains("newer"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

async fn refuses_an_empty_database(db: &Db) {
    assert_eq!(db.schema_version().await.unwrap(), 0);
    let pending = db.pending_migrations().await.unwrap();
    let named: Vec<_> = pending
        .iter()
        .map(|step| (step.version, step.name))
        .collect();
    assert_eq!(
        named,
        [
            (1, "init"),
            (2, "node_keys"),
            (3, "node_migrations"),
            (4, "node_key_backups"),
            (5, "bus_outbox"),
            (6, "machine_claims"),
            (7, "dead_letters_return"),
            (8, "subscriptions"),
            (9, "plugin_kv")
        ]
    );
    match db.check_schema().await {
        Err(StoreError::Schema(text)) => assert!(text.contains("bellwether migrate"), "{text}"),
        other => panic!("{other:?}"),
    }
}
