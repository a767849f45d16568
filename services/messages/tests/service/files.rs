//! Files of messages.

use crate::support::{ADA, BOB, CAROL, Service};
use flack_api::{
    FILE_BYTES_MAX,
    events::{Event, MessagesEvent},
};
use flack_messages::{SERVICE, events};
use flack_testing::{Answer, published};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

const GENERAL: i64 = 1;
const KEY: &str = "0b7cfe9c-9f0f-4c8e-8d9a-2f6d5f7e1a10";
const HTML: &[u8] = b"<!doctype html><script>alert(1)</script>";

/// A PNG of 3 by 2 pixels, as far as its size is read.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x03\0\0\0\x02\x08\x02\0\0\0";

async fn send(service: &Service, channel_id: &Value, user_id: i64, name: &str, content: &[u8], key: &str) -> Answer {
    let path = format!("/api/v2/channels/{channel_id}/files?name={name}");
    let call = service.request(Method::POST, &path).bearer(&service.token(user_id)).header("Idempotency-Key", key);
    call.bytes("application/octet-stream", content).send().await
}

async fn store(service: &Service, channel_id: i64, user_id: i64, name: &str, content: &[u8]) -> Value {
    let answer = send(service, &json!(channel_id), user_id, name, content, &uuid::Uuid::new_v4().to_string()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    answer.json()
}

async fn post(service: &Service, channel_id: i64, user_id: i64, body: Value, expected: StatusCode) -> Value {
    let path = format!("/api/v2/channels/{channel_id}/messages");
    service.call(Method::POST, &path, user_id, body, expected).await.1
}

async fn get(service: &Service, message: &Value, file: &Value, user_id: i64, expected: StatusCode) -> Answer {
    let path = format!("/api/v2/messages/{}/files/{}", message["id"], file["id"]);
    service.request(Method::GET, &path).bearer(&service.token(user_id)).expect(expected).await
}

#[sqlx::test(migrations = false)]
async fn a_message_has_its_files_in_pages_and_events_and_their_content_is_read_alone(pool: PgPool) {
    let service = Service::start(pool).await;
    let image = store(&service, GENERAL, ADA, "cat.png", PNG).await;
    let id = &image["id"];
    let expected =
        json!({ "id": id, "name": "cat.png", "type": "image/png", "bytes": PNG.len(), "width": 3, "height": 2 });
    assert_eq!(image, expected);
    let text = store(&service, GENERAL, ADA, "notes.txt", b"hello").await;
    let expected = json!({ "id": text["id"], "name": "notes.txt", "type": "application/octet-stream", "bytes": 5 });
    assert_eq!(text, expected);

    let body = json!({ "source": "look", "file_ids": [text["id"], id] });
    let message = post(&service, GENERAL, ADA, body, StatusCode::CREATED).await;
    assert_eq!((&message["source"], &message["files"]), (&json!("look"), &json!([text, image])));
    let page = service.get("/api/v2/messages", StatusCode::OK).await;
    assert_eq!(page["messages"][0]["files"], message["files"]);

    let answer = get(&service, &message, &image, BOB, StatusCode::OK).await;
    assert_eq!(answer.bytes, PNG);
    assert_eq!(answer.header("content-type"), "image/png");
    assert_eq!(answer.header("content-disposition"), "inline; filename*=UTF-8''cat.png");
    assert!(answer.header("content-security-policy").starts_with("sandbox; default-src 'none'"));
    assert!(answer.header("cache-control").starts_with("private"));
    assert_eq!(answer.header("vary"), "Authorization");

    let (_, event) = published(SERVICE, &service.pool, events::map, 2).await.pop().expect("two events");
    let event: Event<MessagesEvent> = serde_json::from_value(event).expect("an event of the schema");
    let MessagesEvent::MessageChanged(message) = event.union else { panic!("not a message") };
    assert_eq!(message.files.iter().map(|file| &*file.name).collect::<Vec<_>>(), ["notes.txt", "cat.png"]);
}

#[sqlx::test(migrations = false)]
async fn what_is_no_image_is_never_shown_in_the_page(pool: PgPool) {
    let service = Service::start(pool).await;
    for (name, content) in [
        ("photo.png", HTML),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>".as_slice()),
        ("page.html", HTML),
    ] {
        let file = store(&service, GENERAL, ADA, name, content).await;
        assert_eq!(file["type"], "application/octet-stream", "{name}");
        let message = post(&service, GENERAL, ADA, json!({ "file_ids": [file["id"]] }), StatusCode::CREATED).await;
        let answer = get(&service, &message, &file, BOB, StatusCode::OK).await;
        assert_eq!(answer.header("content-type"), "application/octet-stream", "{name}");
        assert_eq!(answer.header("content-disposition"), format!("attachment; filename*=UTF-8''{name}"));
    }
    // An image that would be saved as a page gets the extension of its type.
    assert_eq!(store(&service, GENERAL, ADA, "page.html", PNG).await["name"], "page.html.png");
    assert_eq!(store(&service, GENERAL, ADA, "..%2F..%2Fpasswd", b"x").await["name"], "passwd");
}

#[sqlx::test(migrations = false)]
async fn a_refused_file_leaves_nothing_behind(pool: PgPool) {
    let service = Service::start(pool).await;
    let open = service.channel(ADA, json!({ "kind": "public", "name": "open" })).await;
    let general = json!(GENERAL);
    let long = "x".repeat(201);
    for (channel, name, content, expected) in [
        (&general, "a", b"".as_slice(), StatusCode::BAD_REQUEST),
        (&general, "", b"x", StatusCode::BAD_REQUEST),
        (&general, "a%00b", b"x", StatusCode::BAD_REQUEST),
        (&general, &long, b"x", StatusCode::BAD_REQUEST),
        (&general, "a", &vec![0; FILE_BYTES_MAX + 1], StatusCode::PAYLOAD_TOO_LARGE),
        (&open["id"], "a", b"x", StatusCode::FORBIDDEN),
        (&json!(4711), "a", b"x", StatusCode::NOT_FOUND),
    ] {
        let answer = send(&service, channel, BOB, name, content, KEY).await;
        assert_eq!(answer.status, expected, "{name}: {}", answer.text);
    }
    let call = service.request(Method::POST, "/api/v2/channels/1/files?name=a");
    call.bytes("application/octet-stream", b"x").expect(StatusCode::UNAUTHORIZED).await;
    let call = service.request(Method::POST, "/api/v2/channels/1/files?name=a").bearer(&service.token(BOB));
    call.bytes("image/png", PNG).expect(StatusCode::UNSUPPORTED_MEDIA_TYPE).await;
    assert_eq!(service.row::<i64>("select count(*) from files").await, 0);
    store(&service, GENERAL, BOB, "largest", &vec![0; FILE_BYTES_MAX]).await;
}

#[sqlx::test(migrations = false)]
async fn a_repeated_upload_is_one_file_and_the_same_key_is_not_for_another(pool: PgPool) {
    let service = Service::start(pool).await;
    let general = json!(GENERAL);
    let first = send(&service, &general, ADA, "a.txt", b"once", KEY).await;
    service.execute("update files set created_at = now() - interval '59 minutes'").await;
    assert_eq!(send(&service, &general, ADA, "a.txt", b"once", KEY).await.json(), first.json());
    for (name, content) in [("b.txt", b"once"), ("a.txt", b"else")] {
        assert_eq!(send(&service, &general, ADA, name, content, KEY).await.status, StatusCode::CONFLICT);
    }
    assert_ne!(send(&service, &general, BOB, "a.txt", b"once", KEY).await.json()["id"], first.json()["id"]);
    let new = "select count(*) from files where created_at > now() - interval '1 minute'";
    assert_eq!(service.row::<i64>(new).await, 2, "a repeated upload has its hour again");
}

#[sqlx::test(migrations = false)]
async fn a_message_takes_only_files_of_its_author_and_channel_and_once(pool: PgPool) {
    let service = Service::start(pool).await;
    let open = service.channel(ADA, json!({ "kind": "public", "name": "open" })).await;
    let elsewhere = store(&service, open["id"].as_i64().expect("an id"), ADA, "a", b"x").await;
    let of_bob = store(&service, GENERAL, BOB, "a", b"x").await;
    let own = store(&service, GENERAL, ADA, "a", b"x").await;
    let id = &own["id"];
    for ids in [json!([elsewhere["id"]]), json!([of_bob["id"]]), json!([id, of_bob["id"]]), json!([4711])] {
        post(&service, GENERAL, ADA, json!({ "source": "x", "file_ids": ids }), StatusCode::NOT_FOUND).await;
    }
    for body in [
        json!({}),
        json!({ "file_ids": [] }),
        json!({ "source": " ", "file_ids": [id] }),
        json!({ "source": "x", "file_ids": [1, 2, 3, 4, 5] }),
        json!({ "source": "x", "file_ids": ["1"] }),
        json!({ "source": "x", "file_ids": [id, id] }),
    ] {
        post(&service, GENERAL, ADA, body, StatusCode::BAD_REQUEST).await;
    }
    assert_eq!(service.row::<i64>("select count(*) from messages").await, 0);
    post(&service, GENERAL, ADA, json!({ "file_ids": [id] }), StatusCode::CREATED).await;
    post(&service, GENERAL, ADA, json!({ "file_ids": [id] }), StatusCode::NOT_FOUND).await;
}

#[sqlx::test(migrations = false)]
async fn a_repeated_message_with_files_is_one_message(pool: PgPool) {
    let service = Service::start(pool).await;
    let (one, two) = (store(&service, GENERAL, ADA, "a", b"x").await, store(&service, GENERAL, ADA, "b", b"y").await);
    let post = async |ids: Value| {
        let call = service.request(Method::POST, "/api/v2/channels/1/messages").bearer(&service.token(ADA));
        call.header("Idempotency-Key", KEY).json(&json!({ "file_ids": ids })).send().await
    };
    let first = post(json!([one["id"]])).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    assert_eq!(post(json!([one["id"]])).await.json(), first.json());
    assert_eq!(post(json!([two["id"]])).await.status, StatusCode::CONFLICT);
    assert_eq!(service.row::<i64>("select count(*) from files where message_id is null").await, 1);
}

#[sqlx::test(migrations = false)]
async fn only_who_reads_the_message_reads_its_files_and_a_deleted_message_has_none(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let private = service.channel(ADA, json!({ "kind": "private", "name": "plans" })).await;
    service.add(&private, ADA, BOB, StatusCode::NO_CONTENT).await;
    let id = private["id"].as_i64().expect("an id");
    let answer = send(&service, &private["id"], CAROL, "a", b"x", KEY).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let (file, other) = (store(&service, id, ADA, "a", PNG).await, store(&service, id, ADA, "b", PNG).await);
    let message = post(&service, id, ADA, json!({ "file_ids": [file["id"]] }), StatusCode::CREATED).await;
    get(&service, &message, &file, BOB, StatusCode::OK).await;
    get(&service, &message, &file, CAROL, StatusCode::NOT_FOUND).await;
    service.get(&format!("/api/v2/messages/{}/files/{}", message["id"], file["id"]), StatusCode::NOT_FOUND).await;
    // Not one that the message does not have.
    get(&service, &message, &other, ADA, StatusCode::NOT_FOUND).await;
    let public = service.post(ADA, "x").await;
    get(&service, &public, &file, CAROL, StatusCode::NOT_FOUND).await;

    let path = format!("/api/v2/messages/{}", message["id"]);
    service.call(Method::DELETE, &path, ADA, Value::Null, StatusCode::NO_CONTENT).await;
    get(&service, &message, &file, BOB, StatusCode::NOT_FOUND).await;
    let deleted = service.call(Method::GET, &path, BOB, Value::Null, StatusCode::OK).await.1;
    assert_eq!(deleted.get("files"), None);
    assert_eq!(service.row::<i64>("select count(*) from files").await, 1);
}

/// The previous version knows the column, but not what a deletion does to it.
#[sqlx::test(migrations = false)]
async fn a_deletion_by_a_version_without_files_erases_them(pool: PgPool) {
    let service = Service::start(pool).await;
    let file = store(&service, GENERAL, ADA, "a", PNG).await;
    let message = post(&service, GENERAL, ADA, json!({ "file_ids": [file["id"]] }), StatusCode::CREATED).await;
    service.execute("update messages set source = '', html = '', deleted_at = now()").await;
    get(&service, &message, &file, ADA, StatusCode::NOT_FOUND).await;
    assert_eq!(service.row::<String>("select files::text from messages").await, "[]");
    assert_eq!(service.row::<i64>("select count(*) from files").await, 0);
}

#[sqlx::test(migrations = false)]
async fn the_bytes_of_files_that_a_user_stores_in_ten_seconds_are_limited(pool: PgPool) {
    let service = Service::start(pool).await;
    let megabyte = vec![0; 1_048_576];
    for number in 0..8 {
        let key = format!("00000000-0000-4000-8000-00000000000{number}");
        let answer = send(&service, &json!(GENERAL), ADA, "a", &megabyte, &key).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    }
    let answer = send(&service, &json!(GENERAL), ADA, "a", &megabyte, KEY).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    store(&service, GENERAL, BOB, "a", b"x").await;
}

#[sqlx::test(migrations = false)]
async fn version_1_shows_the_text_and_of_a_message_without_text_the_number_of_files(pool: PgPool) {
    let service = Service::start(pool).await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(store(&service, GENERAL, ADA, name, b"x").await["id"].clone());
    }
    post(&service, GENERAL, ADA, json!({ "source": "look", "file_ids": [ids[0]] }), StatusCode::CREATED).await;
    let without = post(&service, GENERAL, ADA, json!({ "file_ids": ids[1..] }), StatusCode::CREATED).await;
    assert_eq!((&without["source"], &without["html"]), (&json!(""), &json!("")));
    let list = service.get("/api/messages", StatusCode::OK).await;
    let texts: Vec<_> = list["messages"].as_array().expect("a list").iter().map(|message| &message["source"]).collect();
    assert_eq!(texts, ["look", "(2 files)"]);
    let message = service.get(&format!("/api/messages/{}", without["id"]), StatusCode::OK).await;
    assert_eq!((&message["source"], &message["html"]), (&json!("(2 files)"), &json!("<p>(2 files)</p>\n")));
    assert_eq!(message.get("files"), None);
}

#[sqlx::test(migrations = false)]
async fn a_user_has_a_limited_number_and_size_of_files(pool: PgPool) {
    let service = Service::start(pool).await;
    for (statement, expected) in [
        (
            "insert into files (user_id, channel_id, name, type, content)
             select 1, 1, 'x', 'x', decode(repeat('00', 1048576), 'hex') from generate_series(1, 64)",
            "too-many-files",
        ),
        (
            "with gone as (delete from files)
             insert into files (user_id, channel_id, name, type, content)
             select 2, 1, 'x', 'x', 'x' from generate_series(1, 1000)",
            "too-many-files",
        ),
    ] {
        service.execute(statement).await;
        let user_id = service.row::<i64>("select max(user_id) from files").await;
        let answer = send(&service, &json!(GENERAL), user_id, "a", b"x", KEY).await;
        assert_eq!(
            (answer.status, &answer.json()["type"]),
            (StatusCode::CONFLICT, &json!(format!("/api/docs/problems#{expected}")))
        );
    }
    store(&service, GENERAL, CAROL, "a", b"x").await;
}

#[sqlx::test(migrations = false)]
async fn a_file_without_a_message_is_deleted_after_an_hour(pool: PgPool) {
    let service = Service::start(pool).await;
    let used = store(&service, GENERAL, ADA, "used", b"x").await;
    post(&service, GENERAL, ADA, json!({ "file_ids": [used["id"]] }), StatusCode::CREATED).await;
    store(&service, GENERAL, ADA, "old", b"x").await;
    service.execute("update files set created_at = now() - interval '61 minutes'").await;
    store(&service, GENERAL, ADA, "new", b"x").await;
    assert_eq!(service.store.delete_unused_files(100).await.expect("deleted"), 1);
    assert_eq!(service.row::<String>("select string_agg(name, ' ' order by id) from files").await, "used new");
    service.execute("update files set created_at = now() - interval '61 minutes'").await;
    assert_eq!(service.store.delete_unused_files(0).await.expect("the limit"), 0);
}
