//! Messages that are edited and deleted in version 2.

use crate::support::{ADA, BOB, Service};
use flack_api::events::{Event, MessagesEvent, Operation};
use flack_messages::{SERVICE, events};
use flack_testing::published;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

fn path(message: &Value) -> String {
    format!("/api/v2/messages/{}", message["id"])
}

#[sqlx::test(migrations = false)]
async fn an_edit_of_the_author_sets_edited_at_and_a_preview_does_not(pool: PgPool) {
    let service = Service::start(pool).await;
    let message = service.post(ADA, "old").await;
    service.execute("update messages set html = 'with a preview', updated_at = now()").await;
    assert_eq!(service.get(&path(&message), StatusCode::OK).await.get("edited_at"), None);
    let edit = json!({ "source": "*new*" });
    let edited = service.call(Method::PATCH, &path(&message), ADA, edit, StatusCode::OK).await.1;
    assert_eq!((&edited["source"], &edited["html"]), (&json!("*new*"), &json!("<p><em>new</em></p>\n")));
    assert_eq!(edited["edited_at"], edited["updated_at"]);
    assert_eq!(service.get(&path(&message), StatusCode::OK).await, edited);
    service.put(ADA, &message["id"], "in version 1", StatusCode::NO_CONTENT).await;
    assert_ne!(service.get(&path(&message), StatusCode::OK).await["edited_at"], edited["edited_at"]);
}

#[sqlx::test(migrations = false)]
async fn a_deleted_message_stays_without_its_content(pool: PgPool) {
    let service = Service::start(pool).await;
    let message = service.post(ADA, "regret https://a.example").await;
    service.call(Method::DELETE, &path(&message), BOB, Value::Null, StatusCode::FORBIDDEN).await;
    for _ in 0..2 {
        service.call(Method::DELETE, &path(&message), ADA, Value::Null, StatusCode::NO_CONTENT).await;
    }
    let deleted = service.get(&path(&message), StatusCode::OK).await;
    assert_eq!((&deleted["source"], &deleted["html"]), (&json!(""), &json!("")));
    assert_eq!(deleted["deleted_at"], deleted["updated_at"]);
    let page = service.get("/api/v2/messages", StatusCode::OK).await;
    assert_eq!(page["messages"], json!([deleted]));
    let list = service.get("/api/messages", StatusCode::OK).await;
    assert_eq!((&list["messages"][0]["source"], &list["messages"][0]["html"]), (&json!(""), &json!("")));
    assert_eq!(service.row::<i64>("select count(*) from link_previews").await, 0);

    let edit = json!({ "source": "back" });
    service.call(Method::PATCH, &path(&message), ADA, edit, StatusCode::NOT_FOUND).await;
    service.put(ADA, &message["id"], "back", StatusCode::NOT_FOUND).await;
}

#[sqlx::test(migrations = false)]
async fn a_deletion_is_published_as_a_change(pool: PgPool) {
    let service = Service::start(pool).await;
    let message = service.post(ADA, "regret").await;
    service.call(Method::DELETE, &path(&message), ADA, Value::Null, StatusCode::NO_CONTENT).await;
    let (_, event) = published(SERVICE, &service.pool, events::map, 3).await.pop().expect("three events");
    let event: Event<MessagesEvent> = serde_json::from_value(event).expect("an event of the schema");
    let MessagesEvent::MessageChanged(message) = event.union else { panic!("not a message") };
    assert_eq!((event.operation, event.version), (Operation::Update, 2));
    assert_eq!((&*message.source, &*message.html, message.deleted_at.is_some()), ("", "", true));
}
