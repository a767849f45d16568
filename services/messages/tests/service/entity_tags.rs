//! `ETag` and `If-Match`: a change that is based on an old content is refused.

use crate::support::{ADA, BOB, Service};
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};
use sqlx::PgPool;

async fn change(
    service: &Service,
    method: Method,
    path: &str,
    if_match: &str,
    body: Value,
    expected: StatusCode,
) -> (HeaderMap, Value) {
    let call = service.request(method, path).bearer(&service.token(ADA)).header("If-Match", if_match);
    let call = if body.is_null() { call } else { call.json(&body) };
    let answer = call.expect(expected).await;
    (answer.headers.clone(), answer.json())
}

async fn tag(service: &Service, path: &str) -> String {
    let (headers, body) = service.call(Method::GET, path, ADA, Value::Null, StatusCode::OK).await;
    let tag = headers[header::ETAG].to_str().expect("a text").to_owned();
    assert_eq!(tag, format!("\"{}\"", body["version"]));
    tag
}

#[sqlx::test(migrations = false)]
async fn a_message_is_changed_only_from_its_present_content(pool: PgPool) {
    let service = Service::start(pool).await;
    let path = format!("/api/v2/messages/{}", service.post(ADA, "one").await["id"]);
    let first = tag(&service, &path).await;
    let edit = |source: &str| json!({ "source": source });
    let (headers, body) = change(&service, Method::PATCH, &path, &first, edit("two"), StatusCode::OK).await;
    let second = tag(&service, &path).await;
    assert_eq!((headers[header::ETAG].to_str().ok(), &body["version"]), (Some(&*second), &json!(2)));
    let (_, problem) =
        change(&service, Method::PATCH, &path, &first, edit("lost"), StatusCode::PRECONDITION_FAILED).await;
    assert_eq!(problem["type"], "/api/docs/problems#precondition-failed");
    change(&service, Method::DELETE, &path, &first, Value::Null, StatusCode::PRECONDITION_FAILED).await;
    // No version has it yet.
    change(&service, Method::DELETE, &path, "\"3\"", Value::Null, StatusCode::PRECONDITION_FAILED).await;
    assert_eq!(service.get(&path, StatusCode::OK).await["source"], "two");
    for _ in 0..2 {
        change(&service, Method::DELETE, &path, &second, Value::Null, StatusCode::NO_CONTENT).await;
    }
}

#[sqlx::test(migrations = false)]
async fn what_others_add_to_a_message_changes_its_tag_and_refuses_no_edit(pool: PgPool) {
    let service = Service::start(pool).await;
    let message = service.post(ADA, "one").await;
    let path = format!("/api/v2/messages/{}", message["id"]);
    let reply = json!({ "source": "yes", "thread_id": message["id"] });
    for (method, added, body, expected) in [
        (Method::PUT, format!("{path}/reactions/%F0%9F%8E%89"), Value::Null, StatusCode::NO_CONTENT),
        (Method::PUT, format!("{path}/pin"), Value::Null, StatusCode::NO_CONTENT),
        (Method::POST, "/api/v2/channels/1/messages".to_owned(), reply, StatusCode::CREATED),
    ] {
        let read = tag(&service, &path).await;
        service.call(method, &added, BOB, body, expected).await;
        // A client with the former representation gets the present one.
        let present = service.request(Method::GET, &path).header("If-None-Match", &read).expect(StatusCode::OK).await;
        assert_ne!(present.header("etag"), read, "{added}");
        let edit = |source: &str| json!({ "source": source });
        change(&service, Method::PATCH, &path, &read, edit(&added), StatusCode::OK).await;
        change(&service, Method::PATCH, &path, &read, edit("lost"), StatusCode::PRECONDITION_FAILED).await;
        assert_eq!(service.get(&path, StatusCode::OK).await["source"], added);
    }
    let read = tag(&service, &path).await;
    service.execute("update messages set html = 'with a preview', updated_at = now() where thread_id is null").await;
    change(&service, Method::DELETE, &path, &read, Value::Null, StatusCode::NO_CONTENT).await;
}

#[sqlx::test(migrations = false)]
async fn a_channel_is_changed_only_from_its_present_version(pool: PgPool) {
    let service = Service::start(pool).await;
    let channel = service.channel(ADA, json!({ "kind": "public", "name": "news" })).await;
    let path = format!("/api/v2/channels/{}", channel["id"]);
    let first = tag(&service, &path).await;
    let topic = |topic: &str| json!({ "topic": topic });
    let (headers, _) = change(&service, Method::PATCH, &path, &first, topic("a"), StatusCode::OK).await;
    assert_eq!(headers[header::ETAG].to_str().ok(), Some(&*tag(&service, &path).await));
    change(&service, Method::PATCH, &path, &first, topic("b"), StatusCode::PRECONDITION_FAILED).await;
    assert_eq!(service.seen(&channel, ADA).await["topic"], "a");
}

#[sqlx::test(migrations = false)]
async fn a_malformed_entity_tag_is_refused(pool: PgPool) {
    let service = Service::start(pool).await;
    let path = format!("/api/v2/messages/{}", service.post(ADA, "one").await["id"]);
    for tag in ["1", "\"\"", "\"x\"", "W/\"1\"", "\"1\", \"2\"", "\"99999999999999999999\"", "\"9999999999999999999\""]
    {
        change(&service, Method::DELETE, &path, tag, Value::Null, StatusCode::BAD_REQUEST).await;
    }
}
