//! An entity has the same model in REST answers and in websocket frames.

use flack_api::{
    events::{MessageModel, UserModel},
    messages, messages_v2, users,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, from_value, json, to_value};

fn mapped<Event: DeserializeOwned, Model: From<Event> + Serialize>(event: Value) -> Value {
    to_value(Model::from(from_value(event).unwrap())).unwrap()
}

fn message_of_version_2(event: Value, version: i64) -> Value {
    let event: MessageModel = from_value(event).unwrap();
    to_value(messages_v2::types::Message::from((event, version))).unwrap()
}

#[test]
fn a_user_of_an_event_becomes_the_user_of_the_api() {
    let event = json!({
        "id": 7, "created_at": 1, "updated_at": 2, "last_seen_at": 3, "password_changed_at": 4, "nickname": "ada",
        "online": true
    });
    assert_eq!(
        mapped::<UserModel, users::types::User>(event),
        json!({
            "id": 7, "created_at": 1, "updated_at": 2, "last_seen_at": 3, "nickname": "ada", "online": true,
            "_links": { "self": "/api/users/7", "messages": "/api/messages", "tokens": "/api/tokens" }
        })
    );
}

#[test]
fn a_message_of_an_event_becomes_the_message_of_the_api_without_a_nickname() {
    let event = json!({
        "id": 9, "created_at": 1, "updated_at": 2, "user_id": 7, "channel_id": 1, "source": "hello",
        "html": "<p>hello</p>"
    });
    assert_eq!(
        mapped::<MessageModel, messages::types::Message>(event),
        json!({
            "id": 9, "created_at": 1, "updated_at": 2, "source": "hello", "html": "<p>hello</p>", "user_id": 7,
            "_links": { "self": "/api/messages/9", "user": "/api/users/7" }
        })
    );
}

#[test]
fn a_deleted_message_of_an_event_becomes_a_message_of_version_2_with_its_times() {
    let event = json!({
        "id": 9, "created_at": 1, "updated_at": 3, "edited_at": 2, "deleted_at": 3, "user_id": 7, "channel_id": 5,
        "source": "", "html": ""
    });
    assert_eq!(
        message_of_version_2(event, 4),
        json!({
            "id": 9, "version": 4, "cursor": "AQAAAAAAAAAJ", "created_at": "1970-01-01T00:00:01Z",
            "updated_at": "1970-01-01T00:00:03Z", "edited_at": "1970-01-01T00:00:02Z",
            "deleted_at": "1970-01-01T00:00:03Z", "channel_id": 5, "user_id": 7, "source": "", "html": ""
        })
    );
}

#[test]
fn a_message_of_version_2_has_what_others_have_added_and_one_of_version_1_has_not() {
    let event = json!({
        "id": 9, "created_at": 1, "updated_at": 1, "user_id": 7, "channel_id": 1, "source": "@bob", "html": "@bob",
        "mentioned_user_ids": [8], "reactions": [{ "emoji": "👍", "user_ids": [8, 9] }], "thread_id": 5,
        "reply_count": 2, "last_reply_at": 3, "pinned_at": 4, "annotated_version": 6
    });
    assert_eq!(
        message_of_version_2(event.clone(), 6),
        json!({
            "id": 9, "version": 6, "cursor": "AQAAAAAAAAAJ", "created_at": "1970-01-01T00:00:01Z",
            "updated_at": "1970-01-01T00:00:01Z", "channel_id": 1, "user_id": 7, "source": "@bob", "html": "@bob",
            "mentions": { "user_ids": [8], "everyone": false },
            "reactions": [{ "emoji": "👍", "count": 2, "user_ids": [8, 9] }], "thread_id": 5, "reply_count": 2,
            "last_reply_at": "1970-01-01T00:00:03Z", "pinned_at": "1970-01-01T00:00:04Z"
        })
    );
    let version_1 = mapped::<MessageModel, messages::types::Message>(event);
    let members: Vec<_> = version_1.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["_links", "created_at", "html", "id", "source", "updated_at", "user_id"]);
}

#[test]
fn a_message_without_replies_has_no_time_of_the_last_one() {
    let event = json!({
        "id": 9, "created_at": 1, "updated_at": 1, "user_id": 7, "channel_id": 1, "source": "x", "html": "x",
        "last_reply_at": 3
    });
    assert_eq!(message_of_version_2(event, 1).get("last_reply_at"), None);
}

#[test]
fn previews_are_quotations_in_the_html_of_version_1_and_data_in_version_2() {
    let preview = json!({ "url": "https://a.example/", "title": "A" });
    let event = |start: i32| {
        json!({
            "id": 9, "created_at": 1, "updated_at": 1, "user_id": 7, "channel_id": 1, "source": "ü",
            "html": "ü<q>A</q>",
            "previews": [preview], "previews_start": start
        })
    };
    let message = message_of_version_2(event(2), 1);
    assert_eq!((&message["html"], &message["previews"]), (&json!("ü"), &json!([preview])));
    let version_1 = mapped::<MessageModel, messages::types::Message>(event(2));
    assert_eq!((&version_1["html"], version_1.get("previews")), (&json!("ü<q>A</q>"), None));
    // No byte at which a character begins.
    for start in [-1, 1, 99] {
        assert_eq!(message_of_version_2(event(start), 1)["html"], "ü<q>A</q>");
    }
}
