//! The functions for operators: replays and snapshots, in portions.

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::things::{database, insert, rename, scalar};

type Portion = (i64, Value, i64);

async fn snapshot(pool: &PgPool, after: Option<Value>, rows_max: i32) -> Option<Portion> {
    sqlx::query_as("select queued, last_key, last_id from snapshot_portion('thing', $1, $2)")
        .bind(after)
        .bind(rows_max)
        .fetch_optional(pool)
        .await
        .unwrap()
}

/// Deletes the journal, as if all rows were older than its retention.
async fn delete_the_journal(pool: &PgPool) {
    sqlx::raw_sql("delete from journal_queue; delete from journal").execute(pool).await.unwrap();
}

#[sqlx::test(migrations = false)]
async fn a_snapshot_publishes_rows_that_are_not_in_the_journal_any_more(pool: PgPool) {
    database(&pool).await;
    let id = insert(&pool, "one").await;
    rename(&pool, id, "two").await;
    delete_the_journal(&pool).await;

    let (queued, last_key, _) = snapshot(&pool, None, 10).await.unwrap();
    assert_eq!((queued, last_key), (1, json!({ "id": id })));
    let row: (String, String, i64, Value) =
        sqlx::query_as("select operation, entity_id, version, row_data from journal").fetch_one(&pool).await.unwrap();
    let expected = json!({ "id": id, "name": "two", "version": 2 });
    assert_eq!(row, ("update".to_owned(), id.to_string(), 2, expected), "without the omitted columns");
    assert_eq!(scalar::<i64>(&pool, "select version from thing").await, 2, "the version has not changed");
    assert!(scalar::<bool>(&pool, "select bool_and(replay) from journal_queue").await, "it is marked as a replay");
}

#[sqlx::test(migrations = false)]
async fn a_snapshot_continues_where_the_previous_portion_ended(pool: PgPool) {
    database(&pool).await;
    for number in 0..5 {
        insert(&pool, &number.to_string()).await;
    }
    delete_the_journal(&pool).await;
    let (mut counts, mut after) = (Vec::new(), None);
    while let Some((queued, last_key, _)) = snapshot(&pool, after, 2).await {
        counts.push(queued);
        after = Some(last_key);
    }
    assert_eq!(counts, [2, 2, 1]);
    assert_eq!(scalar::<i64>(&pool, "select count(distinct entity_id) from journal").await, 5);
}

#[sqlx::test(migrations = false)]
async fn a_snapshot_waits_for_an_uncommitted_change(pool: PgPool) {
    database(&pool).await;
    let id = insert(&pool, "one").await;
    let mut change = pool.begin().await.unwrap();
    sqlx::query("update thing set name = 'two' where id = $1").bind(id).execute(&mut *change).await.unwrap();

    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { snapshot(&pool, None, 10).await }
    });
    while !scalar::<bool>(&pool, "select exists (select from pg_locks where not granted)").await {
        tokio::task::yield_now().await;
    }
    change.commit().await.unwrap();
    waiting.await.unwrap().unwrap();

    // Ids keep the order of changes: a consumer that takes the highest id must not get 'one'.
    let names: Vec<String> =
        sqlx::query_scalar("select row_data ->> 'name' from journal order by id").fetch_all(&pool).await.unwrap();
    assert_eq!(names, ["one", "two", "two"]);
}

#[sqlx::test(migrations = false)]
async fn a_replay_queues_the_selected_rows_in_portions(pool: PgPool) {
    database(&pool).await;
    let (one, two) = (insert(&pool, "one").await, insert(&pool, "two").await);
    for name in ["a", "b", "c"] {
        rename(&pool, one, name).await;
    }
    sqlx::query("delete from journal_queue").execute(&pool).await.unwrap();

    let replay = "select queued from replay_portion('thing', $1, null, null, null, null, 3)";
    let queued: i64 = sqlx::query_scalar(replay).bind(one.to_string()).fetch_one(&pool).await.unwrap();
    assert_eq!(queued, 3);
    let rest: i64 = sqlx::query_scalar(
        "select portion.queued
        from journal cross join lateral
            replay_portion('thing', $1, null, null, journal.recorded_at, journal.id, 3) as portion
        where journal.row_data ->> 'name' = 'b'",
    )
    .bind(one.to_string())
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(rest, 1, "only c is left, and no row of {two}");
    let none: Option<i64> = sqlx::query_scalar(replay).bind("unknown").fetch_optional(&pool).await.unwrap();
    assert_eq!(none, None);
}
