//! Every operation of the messages API.

use crate::support::{ADA, BOB, CORRELATION_ID, Service};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use sqlx::PgPool;

#[sqlx::test(migrations = false)]
async fn a_posted_message_is_returned_rendered_with_its_location(pool: PgPool) {
    let service = Service::start(pool).await;
    let (headers, message) =
        service.call(Method::POST, "/api/messages", ADA, json!({ "source": "**hi** <b>" }), StatusCode::CREATED).await;
    let path = message["_links"]["self"].as_str().expect("a link");
    assert_eq!(headers[header::LOCATION], path);
    assert_eq!(message["source"], "**hi** <b>");
    assert_eq!(message["html"], "<p><strong>hi</strong> &lt;b&gt;</p>\n");
    assert_eq!(message["user_id"], ADA);
    assert_eq!(message["_links"]["user"], "/api/users/1");
    assert_eq!(message["created_at"], message["updated_at"]);
    assert_eq!(message.get("nickname"), None);
    assert_eq!(service.get(path, StatusCode::OK).await, message);
}

#[sqlx::test(migrations = false)]
async fn bad_input_is_refused_with_a_reason_and_not_stored(pool: PgPool) {
    let service = Service::start(pool).await;
    let long = "x".repeat(8193);
    for body in [
        json!({}),
        json!({ "source": "" }),
        json!({ "source": " \n\t" }),
        json!({ "source": 1 }),
        json!({ "source": null }),
        json!({ "source": ["x"] }),
        json!({ "source": "a\u{0}b" }),
        json!({ "source": long }),
        json!([]),
        json!("x"),
    ] {
        let (headers, problem) =
            service.call(Method::POST, "/api/messages", ADA, body.clone(), StatusCode::BAD_REQUEST).await;
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(problem["error"], problem["detail"], "{body}");
        assert_eq!(problem["status"], 400);
    }
    let cases: [(&str, &str, StatusCode); 4] = [
        ("application/json", "{\"source\": ", StatusCode::BAD_REQUEST),
        ("application/json", "", StatusCode::BAD_REQUEST),
        ("text/plain", "{\"source\": \"x\"}", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("application/x-www-form-urlencoded", "source=x", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ];
    for (kind, body, expected) in cases {
        let call = service.request(Method::POST, "/api/messages").bearer(&service.token(ADA));
        call.body(kind, body).expect(expected).await;
    }
    let huge = json!({ "source": "x".repeat(70_000) });
    service.call(Method::POST, "/api/messages", ADA, huge, StatusCode::PAYLOAD_TOO_LARGE).await;
    assert_eq!(service.row::<i64>("select count(*) from messages").await, 0);
}

#[sqlx::test(migrations = false)]
async fn malformed_paths_queries_and_headers_are_refused(pool: PgPool) {
    let service = Service::start(pool).await;
    for path in [
        "/api/messages/0",
        "/api/messages/-1",
        "/api/messages/x",
        "/api/messages/99999999999999999999",
        "/api/messages?updated_since=x",
        "/api/messages?updated_since=-1",
        "/api/messages?updated_since=99999999999999999999",
        "/api/messages?include=password",
    ] {
        service.get(path, StatusCode::BAD_REQUEST).await;
    }
    let call = service.request(Method::POST, "/api/messages").bearer(&service.token(ADA));
    let call = call.header("Idempotency-Key", "not a uuid").json(&json!({ "source": "x" }));
    call.expect(StatusCode::BAD_REQUEST).await;
}

#[sqlx::test(migrations = false)]
async fn without_a_valid_token_a_client_can_read_but_not_write(pool: PgPool) {
    let service = Service::start(pool).await;
    let id = service.post(ADA, "hello").await["id"].clone();
    let good = service.token(ADA);
    let forged = format!("{}x", &good[..good.len() - 4]);
    let body = json!({ "source": "x" });
    for credentials in [
        None,
        Some(format!("Bearer {forged}")),
        Some(format!("Bearer {}", service.expired_token(ADA))),
        Some(format!("Bearer {}", service.revoked_token(ADA))),
        Some("Bearer".to_owned()),
        Some("Bearer a.b.c".to_owned()),
        Some("Basic YWRhOnNlY3JldA==".to_owned()),
    ] {
        for (method, path) in [(Method::POST, "/api/messages".to_owned()), (Method::PUT, format!("/api/messages/{id}"))]
        {
            let mut call = service.request(method, &path).json(&body);
            if let Some(credentials) = &credentials {
                call = call.header("authorization", credentials);
            }
            let answer = call.expect(StatusCode::UNAUTHORIZED).await;
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{credentials:?}");
        }
    }
    service.get("/api/messages", StatusCode::OK).await;
    service.get(&format!("/api/messages/{id}"), StatusCode::OK).await;
    assert_eq!(service.row::<i64>("select count(*) from messages").await, 1);
}

#[sqlx::test(migrations = false)]
async fn an_unknown_message_is_not_found(pool: PgPool) {
    let service = Service::start(pool).await;
    let problem = service.get("/api/messages/4711", StatusCode::NOT_FOUND).await;
    assert!(problem["detail"].as_str().expect("a text").contains("4711"));
    service.put(ADA, &json!(4711), "x", StatusCode::NOT_FOUND).await;
}

#[sqlx::test(migrations = false)]
async fn only_the_author_can_edit_a_message_which_is_then_rendered_again(pool: PgPool) {
    let service = Service::start(pool).await;
    let id = service.post(ADA, "old").await["id"].clone();
    service.execute("update messages set updated_at = now() - interval '1 hour', created_at = updated_at").await;
    service.put(BOB, &id, "mine now", StatusCode::FORBIDDEN).await;
    let before = service.get(&format!("/api/messages/{id}"), StatusCode::OK).await;
    assert_eq!(before["source"], "old");

    assert_eq!(service.put(ADA, &id, "*new*", StatusCode::NO_CONTENT).await, Value::Null);
    let after = service.get(&format!("/api/messages/{id}"), StatusCode::OK).await;
    assert_eq!(after["source"], "*new*");
    assert_eq!(after["html"], "<p><em>new</em></p>\n");
    assert_eq!(after["created_at"], before["created_at"]);
    assert!(after["updated_at"].as_i64() > before["updated_at"].as_i64());
    for body in [json!({}), json!({ "source": "" }), json!({ "source": 7 })] {
        service.call(Method::PUT, &format!("/api/messages/{id}"), ADA, body, StatusCode::BAD_REQUEST).await;
    }
}

#[sqlx::test(migrations = false)]
async fn a_list_has_the_changes_of_the_last_day_oldest_first(pool: PgPool) {
    let service = Service::start(pool).await;
    for source in ["first", "second", "third", "too old"] {
        service.post(ADA, source).await;
    }
    service
        .execute(
            "update messages set updated_at = case source
                 when 'first' then to_timestamp(extract(epoch from now())::bigint - 10)
                 when 'too old' then now() - interval '25 hours'
                 else now() end",
        )
        .await;
    service.put(ADA, &json!(2), "second, edited", StatusCode::NO_CONTENT).await;
    let sources = |list: &Value| -> Vec<String> {
        let messages = list["messages"].as_array().expect("a list");
        messages.iter().map(|message| message["source"].as_str().expect("a text").to_owned()).collect()
    };
    let list = service.get("/api/messages", StatusCode::OK).await;
    assert_eq!(sources(&list), ["first", "third", "second, edited"]);
    let changed_at = list["messages"][0]["updated_at"].as_i64().expect("a number");
    let list = service.get(&format!("/api/messages?updated_since={changed_at}"), StatusCode::OK).await;
    assert_eq!(sources(&list), ["third", "second, edited"]);
    let list = service.get("/api/messages?updated_since=0", StatusCode::OK).await;
    assert_eq!(sources(&list).len(), 3);
    let list = service.get("/api/messages?updated_since=253402300799", StatusCode::OK).await;
    assert_eq!(sources(&list).len(), 0);
}

#[sqlx::test(migrations = false)]
async fn a_list_has_at_most_a_thousand_messages(pool: PgPool) {
    let service = Service::start(pool).await;
    service.insert(1001, "x", "x", "now() - make_interval(secs => number)").await;
    let list = service.get("/api/messages", StatusCode::OK).await;
    assert_eq!(list["messages"].as_array().expect("a list").len(), 1000);
    let last = list["messages"][999]["updated_at"].as_i64().expect("a number");
    let list = service.get(&format!("/api/messages?updated_since={last}"), StatusCode::OK).await;
    let rest = list["messages"].as_array().expect("a list");
    // The last one again, because several changes can have the same second, and the one above the limit.
    assert_eq!(rest.len(), 2);
}

#[sqlx::test(migrations = false)]
async fn a_list_includes_known_nicknames_on_request(pool: PgPool) {
    let service = Service::start(pool).await;
    service.execute("insert into nicknames (user_id, nickname, version) values (1, 'ada', 1)").await;
    service.post(ADA, "known").await;
    service.post(BOB, "unknown").await;
    let list = service.get("/api/messages?include=nickname", StatusCode::OK).await;
    assert_eq!(list["messages"][0]["nickname"], "ada");
    assert_eq!(list["messages"][1].get("nickname"), None);
    let list = service.get("/api/messages", StatusCode::OK).await;
    assert_eq!(list["messages"][0].get("nickname"), None);
}

#[sqlx::test(migrations = false)]
async fn every_change_is_journaled_with_the_correlation_id_of_its_request(pool: PgPool) {
    let service = Service::start(pool).await;
    let id = service.post(ADA, "one https://a.example").await["id"].clone();
    service.put(ADA, &id, "two", StatusCode::NO_CONTENT).await;
    let rows: Vec<(String, String, i64, String)> = sqlx::query_as(
        "select entity, operation, version, correlation_id from journal where entity <> 'channel' order by id",
    )
    .fetch_all(&service.pool)
    .await
    .expect("the journal");
    let rows: Vec<_> =
        rows.iter().map(|(entity, operation, version, id)| (&**entity, &**operation, *version, &**id)).collect();
    assert_eq!(
        rows,
        [
            ("message", "insert", 1, CORRELATION_ID),
            ("link_preview", "insert", 1, CORRELATION_ID),
            ("message", "update", 2, CORRELATION_ID),
            ("link_preview", "delete", 2, CORRELATION_ID),
        ]
    );
}

#[sqlx::test(migrations = false)]
async fn without_the_database_every_operation_returns_503_with_retry_after(pool: PgPool) {
    let service = Service::start(pool).await;
    service.pool.close().await;
    let body = json!({ "source": "x" });
    for (method, path, body) in [
        (Method::GET, "/api/messages", Value::Null),
        (Method::GET, "/api/messages/1", Value::Null),
        (Method::GET, "/api/v2/messages", Value::Null),
        (Method::POST, "/api/messages", body.clone()),
        (Method::PUT, "/api/messages/1", body),
    ] {
        let (headers, problem) = service.call(method, path, ADA, body, StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(headers[header::RETRY_AFTER], "1", "{problem}");
    }
}
