//! Pages of results.

use http::StatusCode;
use sqlx::PgPool;

use crate::support::{ADA, BOB, GENERAL, Service, ids};

#[sqlx::test(migrations = false)]
async fn pages_have_every_result_once_although_messages_arrive(pool: PgPool) {
    let service = Service::start(pool).await;
    for id in 1..=10 {
        // Different ranks: every third one has the word twice.
        let source = if id % 3 == 0 { "tea tea" } else { "tea" };
        service.message(id, GENERAL, ADA, source).await;
    }
    let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = service.search(BOB, &format!("q=tea&limit=3{cursor}"), StatusCode::OK).await;
        assert!(ids(&page).len() <= 3);
        found.extend(ids(&page));
        pages += 1;
        service.message(100 + pages, GENERAL, ADA, "tea tea tea").await;
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(found, [9, 6, 3, 10, 8, 7, 5, 4, 2, 1]);
    assert_eq!(pages, 4);
    assert_eq!(ids(&service.search(BOB, "q=tea&limit=1", StatusCode::OK).await), [104]);
}

#[sqlx::test(migrations = false)]
async fn of_very_many_matches_the_newest_are_ranked(pool: PgPool) {
    let service = Service::start(pool).await;
    service.settle().await;
    sqlx::query(
        "insert into messages (id, channel_id, user_id, created_at, source)
         select number, 1, 1, now(), case when number in (1, 500) then 'tea tea' else 'tea' end
         from generate_series(1, 1200) as number",
    )
    .execute(&service.pool)
    .await
    .expect("messages");
    let page = service.search(BOB, "q=tea&limit=2", StatusCode::OK).await;
    assert_eq!(ids(&page), [500, 1200], "the first one is not among the newest 1,000");
}
