//! No author and no reader gets many times the bytes of what was sent.

use std::collections::BTreeSet;

use crate::support::{ADA, BOB, Service};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

/// With the brackets and commas of the list.
const LIST_BYTES_MAX: usize = 1_048_576 + 100;

/// The message that became 110,855 bytes of HTML.
fn amplifier() -> String {
    format!("{}\n\n[l]: http:b", "[a][l]".repeat(712))
}

#[sqlx::test(migrations = false)]
async fn a_source_that_would_make_much_longer_html_is_shown_as_plain_text(pool: PgPool) {
    let service = Service::start(pool).await;
    let posted = service.post(ADA, &amplifier()).await;
    let html_bytes = |message: &Value| message["html"].as_str().expect("a text").len();
    assert!(html_bytes(&posted) < 2 * amplifier().len(), "{}", html_bytes(&posted));
    let id = service.post(ADA, "short").await["id"].clone();
    service.put(ADA, &id, &amplifier(), StatusCode::NO_CONTENT).await;
    let edited = service.get(&format!("/api/messages/{id}"), StatusCode::OK).await;
    assert_eq!((&edited["source"], &edited["html"]), (&json!(amplifier()), &posted["html"]));
}

/// Reads a list as a client does: page after page, until a page has nothing later than `updated_since`.
async fn read_all(service: &Service) -> (BTreeSet<i64>, Vec<usize>) {
    let (mut ids, mut pages, mut since) = (BTreeSet::new(), Vec::new(), 0);
    loop {
        let answer = service.get(&format!("/api/messages?updated_since={since}"), StatusCode::OK).await;
        let messages = answer["messages"].as_array().expect("a list");
        ids.extend(messages.iter().map(|message| message["id"].as_i64().expect("an id")));
        pages.push(answer.to_string().len());
        let last = messages.last().map_or(since, |message| message["updated_at"].as_i64().expect("a time"));
        if last == since {
            return (ids, pages);
        }
        since = last;
    }
}

#[sqlx::test(migrations = false)]
async fn a_page_of_a_list_has_at_most_a_mebibyte_and_no_message_is_skipped(pool: PgPool) {
    let service = Service::start(pool).await;
    // Older messages may have longer HTML than new ones; control characters have six times their length in JSON.
    let source = "\u{1}".repeat(4000);
    service.insert(100, &source, &"x".repeat(110_000), "now() - make_interval(secs => number * 0.7)").await;
    let (ids, pages) = read_all(&service).await;
    assert_eq!(ids, (1..=100).collect());
    assert!(pages.iter().all(|bytes| *bytes <= LIST_BYTES_MAX), "{pages:?}");
    assert!((10..=30).contains(&pages.len()), "{pages:?}");
}

#[sqlx::test(migrations = false)]
async fn many_long_messages_within_one_second_are_all_listed(pool: PgPool) {
    let service = Service::start(pool).await;
    // The first page is full at the first of three with one time, which has no fraction. 33 are within one second.
    let times = "to_timestamp(extract(epoch from now())::bigint - 60)
                 + make_interval(secs => case
                     when number <= 8 then number - 20
                     when number <= 11 then 0
                     when number = 42 then 5
                     else number * 0.02 end)";
    service.insert(42, "x", &"x".repeat(110_000), times).await;
    let (ids, pages) = read_all(&service).await;
    assert_eq!(ids, (1..=42).collect(), "{pages:?}");
}

#[sqlx::test(migrations = false)]
async fn an_author_sends_a_limited_number_of_bytes_to_all_clients(pool: PgPool) {
    let service = Service::limited(pool, 40_000).await;
    let long = json!({ "source": "x".repeat(8000) });
    // 16,007 bytes each: source and HTML.
    let id = service.call(Method::POST, "/api/messages", ADA, long.clone(), StatusCode::CREATED).await.1["id"].clone();
    let path = format!("/api/messages/{id}");
    service.call(Method::PUT, &path, ADA, long.clone(), StatusCode::NO_CONTENT).await;
    for (method, path) in [(Method::POST, "/api/messages"), (Method::PUT, &path)] {
        let (headers, problem) = service.call(method, path, ADA, long.clone(), StatusCode::TOO_MANY_REQUESTS).await;
        assert!(problem["type"].as_str().expect("a type").ends_with("#too-many-requests"), "{problem}");
        assert_eq!(headers["retry-after"], "2");
        assert_eq!(headers["ratelimit-policy"], r#""message-bytes";q=40000;w=10"#);
    }
    // A short message has a place still, and another author has an own quota.
    service.post(ADA, "short").await;
    service.call(Method::POST, "/api/messages", BOB, long, StatusCode::CREATED).await;
    assert_eq!(service.row::<i64>("select count(*) from messages").await, 3);
}

#[sqlx::test(migrations = false)]
async fn the_previews_of_a_message_count_before_they_are_fetched(pool: PgPool) {
    let service = Service::limited(pool, 20_000).await;
    let body = json!({ "source": "https://a.example https://b.example https://c.example" });
    service.call(Method::POST, "/api/messages", ADA, body.clone(), StatusCode::CREATED).await;
    service.call(Method::POST, "/api/messages", ADA, body, StatusCode::TOO_MANY_REQUESTS).await;
}
