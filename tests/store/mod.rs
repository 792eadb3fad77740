//! The store's contract: the same checks on SQLite and on PostgreSQL (design: style.md, SQL for two databases).
//!
//! SQLite runs each noun as a test of its own. PostgreSQL runs all of them in one test, because each test is a process and a
//! server takes a second to start; each noun has a database of its own there too.

pub(crate) mod builders;
mod coverage;
mod schema;
mod transfer;

macro_rules! contracts {
    ($($noun:ident),+ $(,)?) => {
        $(mod $noun;)+

        mod on_sqlite {
            $(#[tokio::test]
            async fn $noun() {
                super::$noun::contract(&crate::support::database::TestDb::sqlite().await).await;
            })+
        }

        #[tokio::test]
        async fn on_postgres() {
            let Some(server) = crate::support::postgres::Postgres::start().await else { return };
            $({
                println!("{}", stringify!($noun));
                let database = server.database().await;
                $noun::contract(&database).await;
                database.db.close().await;
            })+
        }
    };
}

contracts!(
    transactions,
    nodes,
    health,
    observations,
    outbox,
    bus_outbox,
    event_log,
    incidents,
    notifications,
    commands,
    operations,
    subscriptions,
    node_migrations,
    agents,
    machine_claims,
    keys,
    plugin_kv,
    plugin_revisions,
    idempotency_keys,
    api_keys,
    audit_log,
    leadership,
    races,
);
