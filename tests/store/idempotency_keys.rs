//! Answers to requests with an idempotency key.

use host_domain::time::Millis;
use host_store::{Db, IdempotentAnswer, UNANSWERED};

use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    an_answer_is_given_once(db).await;
}

async fn an_answer_is_given_once(db: &Db) {
    let answer = |body_hash: &str| IdempotentAnswer {
        principal: "admin".to_owned(),
        key: "k".to_owned(),
        body_hash: body_hash.to_owned(),
        status: 202,
        response: "{}".to_owned(),
        expires_at: Millis(100),
    };
    let put = async |body_hash: &'static str, now| {
        let mut tx = db.begin().await.unwrap();
        let put = tx
            .put_idempotent_answer(&answer(body_hash), Millis(now))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        put
    };
    let (one, two) = tokio::join!(put("a", 1), put("a", 1));
    assert!(one != two, "put once: {one} {two}");
    assert!(!put("b", 99).await);
    let found = db
        .idempotent_answer("admin", "k", Millis(99))
        .await
        .unwrap();
    assert_eq!(found, Some(answer("a")));
    assert_eq!(
        db.idempotent_answer("other", "k", Millis(99))
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        db.idempotent_answer("admin", "k", Millis(100))
            .await
            .unwrap(),
        None
    );
    assert!(put("c", 100).await, "the old one is over");
    let complete = async |body_hash: &str| {
        let answered = IdempotentAnswer {
            status: 202,
            ..answer(body_hash)
        };
        let mut tx = db.begin().await.unwrap();
        let completed = tx.complete_idempotent_answer(&answered).await.unwrap();
        tx.commit().await.unwrap();
        completed
    };
    assert!(!complete("c").await, "an answer that was given stays");
    let claim = IdempotentAnswer {
        status: UNANSWERED,
        expires_at: Millis(300),
        ..answer("d")
    };
    let mut tx = db.begin().await.unwrap();
    assert!(tx.put_idempotent_answer(&claim, Millis(200)).await.unwrap());
    tx.commit().await.unwrap();
    assert!(!complete("e").await, "another request is none of it");
    assert!(complete("d").await);
    let found = db.idempotent_answer("admin", "k", Millis(200)).await;
    assert_eq!(found.unwrap().unwrap().status, 202);
    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.prune_idempotent_answers(Millis(299), 9).await.unwrap(), 0);
    assert_eq!(
        tx.prune_idempotent_answers(Millis(300), 9).await.unwrap(),
        1
    );
    tx.commit().await.unwrap();
}
