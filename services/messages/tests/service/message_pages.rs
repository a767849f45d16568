//! Pages of messages: `GET /api/v2/messages`.

use crate::support::{ADA, Service};
use flack_testing::eventually;
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

/// About the largest page in bytes of source and HTML, with one more message, and JSON around them.
const PAGE_BYTES_MAX: usize = 1_300_000;

async fn page(service: &Service, query: &str) -> Value {
    service.get(&format!("/api/v2/messages{query}"), StatusCode::OK).await
}

fn ids(page: &Value) -> Vec<i64> {
    let messages = page["messages"].as_array().expect("a list");
    messages.iter().map(|message| message["id"].as_i64().expect("an id")).collect()
}

/// Reads pages from `start` until there is none. `parameter` is `before` or `after`.
async fn follow(service: &Service, parameter: &str, start: &Value, limit: usize) -> Vec<Vec<i64>> {
    let (mut pages, mut cursor) = (Vec::new(), start.clone());
    while let Some(text) = cursor.as_str() {
        let page = page(service, &format!("?limit={limit}&{parameter}={text}")).await;
        assert!(page.to_string().len() <= PAGE_BYTES_MAX);
        pages.push(ids(&page));
        cursor = page[if parameter == "before" { "earlier" } else { "later" }].clone();
    }
    pages
}

#[sqlx::test(migrations = false)]
async fn pages_have_every_message_once_in_both_directions(pool: PgPool) {
    let service = Service::start(pool).await;
    service.insert(230, "x", "x", "now()").await;
    let newest = page(&service, "").await;
    assert_eq!(ids(&newest), (181..=230).collect::<Vec<_>>());
    assert_eq!(newest["later"], Value::Null);
    let back = follow(&service, "before", &newest["earlier"], 50).await;
    assert_eq!(back.iter().map(Vec::len).collect::<Vec<_>>(), [50, 50, 50, 30]);
    assert_eq!(back.into_iter().rev().flatten().collect::<Vec<_>>(), (1..=180).collect::<Vec<_>>());

    let oldest = page(&service, &format!("?limit=30&before={}", newest["earlier"].as_str().expect("a cursor"))).await;
    assert_eq!(ids(&oldest), (151..=180).collect::<Vec<_>>());
    let forth = follow(&service, "after", &oldest["later"], 7).await;
    assert_eq!(forth.concat(), (181..=230).collect::<Vec<_>>());
}

#[sqlx::test(migrations = false)]
async fn an_empty_page_leads_back(pool: PgPool) {
    let service = Service::start(pool).await;
    let none = json!({ "messages": [], "earlier": null, "later": null });
    assert_eq!(page(&service, "").await, none);
    service.insert(3, "x", "x", "now()").await;
    let all = page(&service, "").await;
    let cursor = |index: usize| all["messages"][index]["cursor"].as_str().expect("a cursor").to_owned();
    let after_the_last = page(&service, &format!("?after={}", cursor(2))).await;
    assert_eq!((ids(&after_the_last), &after_the_last["later"]), (vec![], &Value::Null));
    let back = follow(&service, "before", &after_the_last["earlier"], 2).await;
    assert_eq!(back, [vec![2, 3], vec![1]]);
    let before_the_first = page(&service, &format!("?before={}", cursor(0))).await;
    assert_eq!((ids(&before_the_first), &before_the_first["earlier"]), (vec![], &Value::Null));
    assert_eq!(follow(&service, "after", &before_the_first["later"], 2).await, [vec![1, 2], vec![3]]);
    // The cursor of a message outlives it.
    service.execute("delete from messages where id = 2").await;
    assert_eq!(follow(&service, "after", &json!(cursor(1)), 2).await, [vec![3]]);
}

#[sqlx::test(migrations = false)]
async fn a_page_of_long_messages_has_fewer_of_them(pool: PgPool) {
    let service = Service::start(pool).await;
    service.insert(100, "x", &"x".repeat(100_000), "now()").await;
    let newest = page(&service, "?limit=100").await;
    assert_eq!(ids(&newest), (90..=100).collect::<Vec<_>>());
    let back = follow(&service, "before", &newest["earlier"], 100).await;
    assert_eq!(back.into_iter().rev().flatten().collect::<Vec<_>>(), (1..=89).collect::<Vec<_>>());
    let forth = follow(&service, "after", &newest["messages"][0]["cursor"], 100).await;
    assert_eq!(forth.concat(), (91..=100).collect::<Vec<_>>());
}

#[sqlx::test(migrations = false)]
async fn a_message_of_a_page_has_times_of_rfc_3339_and_a_known_nickname(pool: PgPool) {
    let service = Service::start(pool).await;
    service.execute("insert into nicknames (user_id, nickname, version) values (1, 'ada', 1)").await;
    service.post(ADA, "**hi**").await;
    service.execute("update messages set created_at = '2026-01-02 03:04:05.678+00', updated_at = created_at").await;
    service.execute("update messages set updated_at = '2026-01-02 03:04:06+00'").await;
    let mut page = page(&service, "").await;
    let cursor = page["messages"][0].as_object_mut().expect("a message").remove("cursor");
    assert!(cursor.is_some_and(|cursor| cursor.is_string()));
    let expected = json!({
        "id": 1, "version": 3, "created_at": "2026-01-02T03:04:05.678Z", "updated_at": "2026-01-02T03:04:06Z",
        "channel_id": 1, "user_id": 1, "nickname": "ada", "source": "**hi**", "html": "<p><strong>hi</strong></p>\n"
    });
    assert_eq!(page["messages"], json!([expected]));
}

#[sqlx::test(migrations = false)]
async fn bad_cursors_and_limits_are_refused(pool: PgPool) {
    let service = Service::start(pool).await;
    service.post(ADA, "x").await;
    let cursor = page(&service, "").await["messages"][0]["cursor"].as_str().expect("a cursor").to_owned();
    for query in [
        "before=".to_owned(),
        "before=1".to_owned(),
        "after=AAAAAAAAAAAA".to_owned(),
        format!("before={cursor}&after={cursor}"),
        "limit=0".to_owned(),
        "limit=101".to_owned(),
    ] {
        service.get(&format!("/api/v2/messages?{query}"), StatusCode::BAD_REQUEST).await;
    }
}

#[sqlx::test(migrations = false)]
async fn a_page_reads_only_its_rows_by_the_primary_key(pool: PgPool) {
    const MESSAGES: i64 = 20_000;
    // For both ends of a page, and for the page.
    const SCANS: i64 = 3;
    let service = Service::start(pool).await;
    service.insert(MESSAGES, "x", "x", "now()").await;
    service.execute("analyze messages").await;
    let statistics = async || -> (i64, i64, i64) {
        sqlx::query_as(
            "select seq_tup_read, coalesce(idx_scan, 0), coalesce(idx_tup_fetch, 0)
             from pg_stat_user_tables where relname = 'messages'",
        )
        .fetch_one(&service.pool)
        .await
        .expect("statistics")
    };
    let newest = page(&service, "").await;
    let (earlier, first) = (newest["earlier"].as_str().expect("a cursor"), &newest["messages"][0]["cursor"]);
    let queries = [String::new(), format!("?before={earlier}"), format!("?after={}", first.as_str().expect("one"))];
    let (scanned_before, scans_before, _) = statistics().await;
    let requests = std::cell::Cell::new(0);
    // Connections report their statistics about once a second. The plans of the sixth and later executions may differ.
    eventually("the scans are counted", async || {
        for query in &queries {
            page(&service, query).await;
            requests.set(requests.get() + 1);
        }
        statistics().await.1 >= scans_before + 20 * SCANS
    })
    .await;
    let (scanned, _, fetched) = statistics().await;
    assert_eq!(scanned, scanned_before, "the table was scanned");
    assert!(fetched <= (requests.get() + 2) * (50 + SCANS), "{fetched} rows in {} requests", requests.get());
}
