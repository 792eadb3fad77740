//! A database that one test owns: migrated, empty, and gone afterwards.

use host_store::{Db, DbOptions};
use sqlx::{AssertSqlSafe, Connection};
use tempfile::TempDir;

/// A database with nothing but the schema in it.
pub(crate) struct TestDb {
    /// The store on it.
    pub(crate) db: Db,
    /// Its address, for statements that the store has no function for.
    pub(crate) url: String,
    _folder: Option<TempDir>,
}

impl TestDb {
    /// A SQLite file in a folder of its own.
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/bellwether.db", folder.path().display());
        Self::open(url, Some(folder)).await
    }

    /// A database that exists already and is empty.
    pub(crate) async fn at(url: String) -> Self {
        Self::open(url, None).await
    }

    async fn open(url: String, folder: Option<TempDir>) -> Self {
        let db = Db::open(&url, &DbOptions::default()).await.unwrap();
        db.migrate().await.unwrap();
        Self {
            db,
            url,
            _folder: folder,
        }
    }

    /// Runs statements behind the store's back.
    pub(crate) async fn raw(&self, text: &str) {
        if self.db.is_sqlite() {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(text))
                .execute(&mut connection)
                .await
                .unwrap();
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(text))
                .execute(&mut connection)
                .await
                .unwrap();
        }
    }

    /// Reads rows of text columns behind the store's back.
    pub(crate) async fn raw_rows(&self, text: &str) -> Vec<Vec<String>> {
        use sqlx::Row;
        if self.db.is_sqlite() {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            let rows = sqlx::query(AssertSqlSafe(text))
                .fetch_all(&mut connection)
                .await
                .unwrap();
            rows.iter()
                .map(|row| (0..row.len()).map(|at| row.get(at)).collect())
                .collect()
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            let rows = sqlx::query(AssertSqlSafe(text))
                .fetch_all(&mut connection)
                .await
                .unwrap();
            rows.iter()
                .map(|row| (0..row.len()).map(|at| row.get(at)).collect())
                .collect()
        }
    }
}
