//! Events and frames as JSON.

use flack_api::{
    events::{Event, MonolithEvent, Operation, TokensEvent, UserModel, UsersEvent},
    frames::{ClientFrame, ModelClass, ServerFrame},
    tokens, users,
};
use serde_json::json;

fn changed() -> Event<UsersEvent> {
    Event {
        id: "users-42".to_owned(),
        operation: Operation::Update,
        time: "2026-11-21T20:00:00Z".parse().unwrap(),
        version: 3,
        epoch: Some(2),
        correlation_id: Some("abc".to_owned()),
        union: UsersEvent::UserChanged(UserModel {
            id: 17,
            created_at: 1,
            updated_at: 2,
            last_seen_at: 3,
            password_changed_at: 4,
            nickname: "alice".to_owned(),
            online: true,
            display_name: None,
            about: None,
            hue: None,
        }),
    }
}

#[test]
fn an_event_is_its_envelope_with_type_and_data() {
    let expected = json!({
        "id": "users-42", "operation": "update", "time": "2026-11-21T20:00:00Z", "version": 3, "epoch": 2,
        "correlation_id": "abc", "type": "user_changed",
        "data": {"id": 17, "created_at": 1, "updated_at": 2, "last_seen_at": 3, "password_changed_at": 4,
                 "nickname": "alice", "online": true},
    });
    assert_eq!(serde_json::to_value(changed()).unwrap(), expected);
    assert_eq!(serde_json::from_value::<Event<UsersEvent>>(expected).unwrap(), changed());
}

#[test]
fn the_monolith_publishes_the_same_event_for_a_user() {
    let text = serde_json::to_string(&changed()).unwrap();
    let event: Event<MonolithEvent> = serde_json::from_str(&text).unwrap();
    assert!(matches!(event.union, MonolithEvent::UserChanged(UserModel { id: 17, .. })));
    assert_eq!(serde_json::to_string(&event).unwrap(), text);
}

#[test]
fn an_event_may_have_unknown_members_but_no_unknown_type() {
    let mut event_json = serde_json::to_value(changed()).unwrap();
    event_json["more"] = json!(1);
    event_json["data"]["more"] = json!(2);
    event_json.as_object_mut().unwrap().remove("correlation_id");
    let event: Event<UsersEvent> = serde_json::from_value(event_json.clone()).unwrap();
    assert_eq!(event, Event { correlation_id: None, ..changed() });

    let problem = serde_json::from_value::<Event<TokensEvent>>(event_json).unwrap_err().to_string();
    assert!(problem.contains("unknown variant `user_changed`, expected `token_changed` or"), "{problem}");
}

#[test]
fn a_frame_begins_with_its_type() {
    let frames = [
        (ServerFrame::ExpiredToken, r#"{"type":"expired_token"}"#.to_owned()),
        (
            ServerFrame::Welcome { cursor: "1.2".to_owned(), resumed: false, user_id: None },
            r#"{"type":"welcome","cursor":"1.2","resumed":false}"#.to_owned(),
        ),
        (
            ServerFrame::UpdatedModel {
                class: ModelClass::User,
                cursor: "1.3".to_owned(),
                model: json!({"id": 1}).as_object().unwrap().clone(),
            },
            r#"{"type":"updated_model","class":"User","cursor":"1.3","model":{"id":1}}"#.to_owned(),
        ),
    ];
    for (frame, text) in frames {
        assert_eq!(serde_json::to_string(&frame).unwrap(), text);
        assert_eq!(serde_json::from_str::<ServerFrame>(&text).unwrap(), frame);
    }
}

#[test]
fn a_frame_may_have_unknown_members() {
    let frame: ClientFrame = serde_json::from_str(r#"{"colour":"red","type":"ping_user"}"#).unwrap();
    assert_eq!(frame, ClientFrame::PingUser);
    let frame: ClientFrame = serde_json::from_str(r#"{"type":"hello","colour":"red"}"#).unwrap();
    assert_eq!(frame, ClientFrame::Hello { token: None, cursor: None, version: None });
}

#[test]
fn the_error_of_a_bad_frame_names_the_cause() {
    let long = json!({"type": "typing", "channel": "x".repeat(65)}).to_string();
    for (bad, cause) in [
        (
            r#"{"type":"shout"}"#,
            "unknown variant `shout`, expected one of `hello`, `ping_user`, `post_message`, `typing`",
        ),
        (r#"{"channel":"general"}"#, "missing field `type`"),
        (r#"{"type":"post_message","id":"1","channel":"general","source":"x"}"#, "UUID"),
        (r#"{"type":"post_message","channel":"general","source":"x"}"#, "missing field `id`"),
        (long.as_str(), "longer than 64 characters"),
    ] {
        let problem = serde_json::from_str::<ClientFrame>(bad).unwrap_err().to_string();
        assert!(problem.contains(cause), "{bad}: {problem}");
    }
}

#[test]
fn a_log_does_not_contain_a_secret() {
    let password: users::types::Password = "hunter2".parse().unwrap();
    let user = users::types::NewUser { nickname: "alice".parse().unwrap(), password, password_rules: None };
    let token = tokens::types::Token { token: "hunter2".to_owned() };
    let hello: ClientFrame = serde_json::from_str(r#"{"type":"hello","token":"hunter2"}"#).unwrap();
    let log = format!("{user:?} {token:?} {hello:?}");
    assert!(!log.contains("hunter2"), "{log}");
    assert!(log.contains("Password(..)") && log.contains("alice"), "{log}");
}
