//! Requests that the generated types accept and the router refuses. As long as these tests pass, `src/server/shape.rs`
//! and `src/server/strict_json.rs` are needed (docs/decisions/0018-requests-are-checked-before-they-are-decoded.md).

use flack_api::{
    ui::types::{NewReadMarker, Preferences},
    users::types::{NewUser, UserUpdate},
};
use serde::de::DeserializeOwned;

fn accepted<T: DeserializeOwned>(json: &str) -> bool {
    serde_json::from_str::<T>(json).is_ok()
}

fn message<T: DeserializeOwned>(json: &str) -> String {
    serde_json::from_str::<T>(json).map(drop).expect_err("the type refuses it").to_string()
}

#[test]
fn the_types_alone_accept_what_the_schema_forbids() {
    assert!(accepted::<NewReadMarker>(r#"{"message_id": 0}"#), "a bound of an integer");
    assert!(accepted::<UserUpdate>(r#"{"nickname": null}"#), "null for an optional member");
    assert!(accepted::<Preferences>(r#"[null, true, "dark"]"#), "an array instead of an object");
    let twice = r#"{"nickname": "alice", "password": "secret", "more": 1, "more": 2}"#;
    assert!(accepted::<NewUser>(twice), "an unknown name twice");
}

#[test]
fn the_errors_of_the_types_repeat_values_and_show_regular_expressions() {
    assert!(message::<NewUser>(r#"{"nickname": "alice", "password": 12345}"#).contains("12345"), "a password");
    assert!(message::<Preferences>(r#"{"theme": "s3cret", "notifications": true}"#).contains("s3cret"));
    assert!(message::<NewUser>(r#"{"nickname": "a b", "password": "x"}"#).contains(r"[^\s"));
}
