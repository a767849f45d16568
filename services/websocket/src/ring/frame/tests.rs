use flack_api::{frames, frames_v2};
use serde_json::{Value, json};

use super::*;

/// The time of all events, in Unix seconds.
const NOW: i64 = 1_795_262_400;

fn event(operation: &str, kind: &str, data: &Value) -> Event<MonolithEvent> {
    let time = DateTime::from_timestamp(NOW, 0).unwrap();
    serde_json::from_value(json!({ "id": "messages-1", "operation": operation, "time": time, "version": 3,
        "type": kind, "data": data }))
    .unwrap()
}

fn update(kind: &str, data: &Value) -> Update {
    update_of(event("update", kind, data)).unwrap().unwrap()
}

/// Returns the audiences and models of an update. Each text is a frame of version 2, and the first member is the type.
fn frames_of(update: &Update) -> Vec<(Audience, Value)> {
    let model = |frame: &Frame| {
        let text = with_cursor(&frame.prefix, &Cursor::default());
        assert!(text.starts_with(r#"{"type":"updated_model""#));
        let frames_v2::ServerFrame::UpdatedModel { class, cursor, model } = serde_json::from_str(&text).unwrap() else {
            panic!("another frame: {text}")
        };
        assert_eq!((class, cursor), (update.version.class, Cursor::default().to_string()));
        (frame.audience, Value::Object(model))
    };
    update.frames.iter().map(model).collect()
}

fn message(channel_id: i64) -> Value {
    json!({ "id": 7, "created_at": NOW, "updated_at": NOW, "user_id": 3, "channel_id": channel_id,
        "source": "a \"quoted\" one", "html": "<p>x</p>" })
}

fn member(channel_id: i64, joined_at: i64, left_at: Option<i64>) -> Value {
    json!({ "channel_id": channel_id, "user_id": 3, "joined_at": joined_at, "left_at": left_at,
        "last_read_message_id": 9 })
}

#[test]
fn a_message_of_general_has_one_text_for_each_version() {
    let update = update("message_changed", &message(1));
    assert_eq!(update.version, EntityVersion { class: ModelClass::Message, id: (7, 0), version: 3 });
    let text = with_cursor(&update.frames[0].prefix, &Cursor::default());
    assert!(matches!(serde_json::from_str(&text), Ok(frames::ServerFrame::UpdatedModel { .. })), "{text}");
    let frames = frames_of(&update);
    let [(Audience::Version1, first), (Audience::Version2, second)] = &frames[..] else { panic!("{frames:?}") };
    let expected = json!({ "id": 7, "created_at": NOW, "updated_at": NOW, "user_id": 3,
        "source": "a \"quoted\" one", "html": "<p>x</p>",
        "_links": { "self": "/api/messages/7", "user": "/api/users/3" } });
    assert_eq!(*first, expected);
    assert_eq!((&second["channel_id"], &second["created_at"]), (&json!(1), &json!("2026-11-21T12:00:00Z")));
}

#[test]
fn a_message_of_another_channel_is_for_its_members_alone() {
    let frames = frames_of(&update("message_changed", &message(4)));
    let [(Audience::Members(4), model)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((&model["channel_id"], &model["source"]), (&json!(4), &json!("a \"quoted\" one")));
}

#[test]
fn a_deleted_message_has_no_source_in_both_versions() {
    let mut deleted = message(1);
    for (name, value) in [("source", json!("")), ("html", json!("")), ("deleted_at", json!(NOW))] {
        deleted[name] = value;
    }
    let frames = frames_of(&update("message_changed", &deleted));
    assert!(frames.iter().all(|(_, model)| model["source"] == "" && model["html"] == ""));
    assert_eq!(frames[1].1["deleted_at"], "2026-11-21T12:00:00Z");
}

#[test]
fn a_message_without_text_says_how_many_files_it_has_in_version_1() {
    let file = |id: i64| json!({ "id": id, "name": "<b>.txt", "type": "application/octet-stream", "bytes": 3 });
    let mut message = message(1);
    (message["source"], message["html"], message["files"]) = (json!(""), json!(""), json!([file(5)]));
    let frames = frames_of(&update("message_changed", &message));
    assert_eq!((&frames[0].1["source"], &frames[0].1["html"]), (&json!("(1 file)"), &json!("<p>(1 file)</p>\n")));
    assert_eq!((frames[0].1.get("files"), &frames[1].1["files"]), (None, &json!([file(5)])));
    assert_eq!((&frames[1].1["source"], &frames[1].1["html"]), (&json!(""), &json!("")));
}

#[test]
fn a_user_has_a_profile_in_version_2_alone() {
    let mut user = json!({ "id": 3, "created_at": NOW, "updated_at": NOW, "last_seen_at": NOW,
        "password_changed_at": NOW, "nickname": "ada", "online": true });
    let frames = frames_of(&update("user_changed", &user));
    let [(Audience::Everyone, model)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!(model.get("profile"), None);
    user["display_name"] = json!("Ada L.");
    user["hue"] = json!(120);
    let changed = frames_of(&update("user_changed", &user));
    let [(Audience::Version1, first), (Audience::Version2, second)] = &changed[..] else { panic!("{changed:?}") };
    assert_eq!(first, model);
    assert_eq!(second["nickname"], "ada");
    let expected = json!({ "user_id": 3, "display_name": "Ada L.", "about": "", "hue": 120, "version": 3 });
    assert_eq!(second["profile"], expected);
}

#[test]
fn a_public_channel_is_for_signed_in_users_and_another_one_for_its_members() {
    let channel = |kind: Option<&str>| json!({ "id": 4, "name": "design", "created_at": NOW, "kind": kind });
    for (kind, audience) in [
        (None, Audience::SignedIn),
        (Some("public"), Audience::SignedIn),
        (Some("private"), Audience::Members(4)),
        (Some("direct"), Audience::Members(4)),
    ] {
        let expected = json!({ "id": 4, "name": "design", "kind": kind.unwrap_or("public"), "topic": "",
            "created_at": "2026-11-21T12:00:00Z", "version": 3 });
        assert_eq!(frames_of(&update("channel_changed", &channel(kind))), [(audience, expected)]);
    }
}

#[test]
fn who_joins_or_leaves_is_for_the_members_and_a_read_position_for_its_user_alone() {
    let hour_ago = NOW - 3600;
    for (member, is_for_members) in [
        (member(4, NOW - 1, None), true),
        (member(4, hour_ago, Some(NOW)), true),
        (member(4, hour_ago, None), false),
        (member(1, NOW, None), false),
    ] {
        let update = update("channel_member_changed", &member);
        assert_eq!(update.version.id, (member["channel_id"].as_i64().unwrap(), 3));
        let frames = frames_of(&update);
        assert_eq!((frames[0].0, &frames[0].1["last_read_message_id"]), (Audience::User(3), &json!(9)), "{member}");
        assert_eq!(frames.len(), if is_for_members { 2 } else { 1 }, "{member}");
        for (audience, model) in &frames[1..] {
            assert_eq!((*audience, model.get("last_read_message_id")), (Audience::Members(4), None));
            assert_eq!((&model["user_id"], &model["version"]), (&json!(3), &json!(3)));
        }
    }
}

#[test]
fn an_event_that_is_not_for_clients_has_no_frame() {
    let token = json!({ "id": "5bd1b9a2-4f9b-4f4e-8f0a-9d4b3c2a1f00", "user_id": 3, "issued_at": 1, "expires_at": 2 });
    assert!(update_of(event("insert", "token_changed", &token)).unwrap().is_none());
    assert!(update_of(event("delete", "message_changed", &message(1))).unwrap().is_none());
}
