//! The AsyncAPI document lists the streams and frames of the schemas, and nothing else.

use std::{collections::BTreeSet, fs, path::Path};

use flack_api::{
    events::{Event, MessagesEvent, MonolithEvent, TokensEvent, UiEvent, UsersEvent},
    frames, frames_v2,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/asyncapi");

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
    serde_yaml_ng::from_str(&text).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()))
}

fn document() -> Value {
    read(&Path::new(FOLDER).join("events.v1.yaml"))
}

fn schema(name: &str) -> Value {
    read(&Path::new(FOLDER).join("../schemas").join(name))
}

/// Follows a `$ref` to its target.
fn resolve(document: &Value, value: &Value) -> Value {
    let Some(reference) = value["$ref"].as_str() else { return value.clone() };
    let (file, path) = reference.split_once('#').unwrap_or((reference, ""));
    let other = if file.is_empty() { document.clone() } else { read(&Path::new(FOLDER).join(file)) };
    let target = other.pointer(path).unwrap_or_else(|| panic!("{reference} does not exist"));
    resolve(&other, target)
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// Union to its alternatives, of the definitions whose names end so.
fn unions(file: &str, suffix: &str) -> Vec<(String, Vec<Value>)> {
    let schema = schema(file);
    let definitions = schema["definitions"].as_object().unwrap().iter();
    definitions
        .filter(|(name, _)| name.ends_with(suffix))
        .map(|(name, union)| (name.clone(), union["oneOf"].as_array().unwrap().clone()))
        .collect()
}

fn every_reference(value: &Value, each: &mut impl FnMut(&Value)) {
    if value["$ref"].is_string() {
        each(value);
    }
    match value {
        Value::Object(members) => members.values().for_each(|member| every_reference(member, each)),
        Value::Array(items) => items.iter().for_each(|item| every_reference(item, each)),
        _ => {}
    }
}

#[test]
fn every_reference_has_a_target() {
    let document = document();
    let mut references = 0;
    every_reference(&document, &mut |reference| {
        references += 1;
        resolve(&document, reference);
    });
    assert!(references > 50, "{references}");
}

#[test]
fn every_union_is_a_stream_and_every_stream_a_union() {
    let document = document();
    let channels = document["channels"].as_object().unwrap();
    let mut streams: BTreeSet<&String> =
        channels.keys().filter(|name| !["typing", "websocket", "websocket_v2"].contains(&name.as_str())).collect();
    for (union, alternatives) in unions("events.schema.json", "Event") {
        let owner = union.trim_end_matches("Event").to_lowercase();
        assert!(streams.remove(&owner), "the stream of {union} is missing");
        let channel = &channels[&owner];
        assert_eq!(channel["title"], format!("Stream {}", owner.to_uppercase()));
        assert_eq!(channel["address"], format!("flack.{owner}.{{type}}.{{entity_id}}"));
        assert_eq!(channel["x-union"]["$ref"], format!("../schemas/events.schema.json#/definitions/{union}"));
        let operation = &document["operations"][format!("publish_{owner}")];
        assert_eq!(
            *operation,
            json!({ "action": "send", "channel": { "$ref": format!("#/channels/{owner}") },
            "summary": operation["summary"] })
        );

        let mut messages = names(&channel["messages"]);
        for alternative in alternatives {
            let kind = alternative["title"].as_str().unwrap();
            assert!(messages.remove(kind), "{owner}: the message {kind} is missing");
            let message = resolve(&document, &channel["messages"][kind]);
            assert_eq!(message["name"], kind);
            let parts = &message["payload"]["allOf"];
            assert_eq!(parts[0]["$ref"], "../schemas/envelope.schema.json");
            let mut listed = parts[1].clone();
            // The same definition, named from elsewhere.
            let model = listed["properties"]["data"]["$ref"].as_str().unwrap();
            listed["properties"]["data"]["$ref"] = json!(model.trim_start_matches("../schemas/events.schema.json"));
            listed["title"] = json!(kind);
            assert_eq!(listed, alternative, "{owner}: {kind}");
        }
        assert!(messages.is_empty(), "{owner}: its union has no {messages:?}");
    }
    assert!(streams.is_empty(), "no union belongs to {streams:?}");
}

#[test]
fn every_frame_is_a_message_of_the_websocket_and_every_message_a_frame() {
    let document = document();
    for (schema, channel, suffix) in
        [("frames.schema.json", "websocket", ""), ("frames.v2.schema.json", "websocket_v2", "_v2")]
    {
        let mut messages = names(&document["channels"][channel]["messages"]);
        for (union, side, operation) in
            [("ClientFrame", "client", "receive_frames"), ("ServerFrame", "server", "send_frames")]
        {
            let mut listed = Vec::new();
            for alternative in &unions(schema, union)[0].1 {
                let kind = alternative["title"].as_str().unwrap();
                let name = format!("{side}_{kind}");
                assert!(messages.remove(&name), "the message {name} is missing");
                let message = resolve(&document, &document["channels"][channel]["messages"][&name]);
                assert_eq!(message["name"], kind);
                assert_eq!(resolve(&document, &message["payload"]), *alternative, "{name}");
                listed.push(json!({ "$ref": format!("#/channels/{channel}/messages/{name}") }));
            }
            let operation = format!("{operation}{suffix}");
            assert_eq!(document["operations"][&operation]["messages"], json!(listed), "{operation}");
        }
        assert!(messages.is_empty(), "there are no frames {messages:?}");
    }
}

#[test]
fn every_message_belongs_to_a_channel() {
    let document = document();
    let mut unused = names(&document["components"]["messages"]);
    every_reference(&document["channels"], &mut |reference| {
        let reference = reference["$ref"].as_str().unwrap();
        unused.remove(reference.trim_start_matches("#/components/messages/"));
    });
    assert!(unused.is_empty(), "{unused:?}");
}

/// Decodes and encodes the example. It stays the same: it has every required member and no unknown one.
fn assert_is<T: DeserializeOwned + Serialize>(name: &str, payload: &Value) {
    let decoded: T = serde_json::from_value(payload.clone()).unwrap_or_else(|problem| panic!("{name}: {problem}"));
    assert_eq!(serde_json::to_value(decoded).unwrap(), *payload, "{name}");
}

#[test]
fn the_examples_are_events_and_frames() {
    let document = document();
    for (channel, is_one) in [
        ("users", assert_is::<Event<UsersEvent>> as fn(&str, &Value)),
        ("tokens", assert_is::<Event<TokensEvent>>),
        ("messages", assert_is::<Event<MessagesEvent>>),
        ("ui", assert_is::<Event<UiEvent>>),
        ("monolith", assert_is::<Event<MonolithEvent>>),
        ("typing", |name, payload| match name {
            "server_typing" => assert_is::<frames::ServerFrame>(name, payload),
            _ => assert_is::<frames_v2::ServerFrame>(name, payload),
        }),
        ("websocket", |name, payload| match name.split_once('_') {
            Some(("client", _)) => assert_is::<frames::ClientFrame>(name, payload),
            _ => assert_is::<frames::ServerFrame>(name, payload),
        }),
        ("websocket_v2", |name, payload| match name.split_once('_') {
            Some(("client", _)) => assert_is::<frames_v2::ClientFrame>(name, payload),
            _ => assert_is::<frames_v2::ServerFrame>(name, payload),
        }),
    ] {
        for name in names(&document["channels"][channel]["messages"]) {
            let message = resolve(&document, &document["channels"][channel]["messages"][&name]);
            let examples = message["examples"].as_array().unwrap_or_else(|| panic!("{name} has no example"));
            for example in examples {
                is_one(&name, &example["payload"]);
                assert_eq!(example["payload"]["type"], message["name"]);
                if let Some(id) = example.pointer("/headers/Nats-Msg-Id") {
                    assert_eq!(*id, example["payload"]["id"], "{name}");
                }
            }
        }
    }
}

#[test]
fn the_envelope_has_the_members_of_every_event_except_type_and_data() {
    let envelope = schema("envelope.schema.json");
    let document = document();
    let message = resolve(&document, &document["channels"]["users"]["messages"]["user_changed"]);
    let full: Event<UsersEvent> = serde_json::from_value(message["examples"][0]["payload"].clone()).unwrap();
    let mut members = names(&serde_json::to_value(&full).unwrap());
    assert!(members.remove("type") && members.remove("data"));
    assert_eq!(names(&envelope["properties"]), members);

    let least = Event { epoch: None, correlation_id: None, ..full };
    let mut members = names(&serde_json::to_value(least).unwrap());
    assert!(members.remove("type") && members.remove("data"));
    let required = envelope["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
    assert_eq!(required.collect::<BTreeSet<_>>(), members);

    for operation in envelope["properties"]["operation"]["enum"].as_array().unwrap() {
        serde_json::from_value::<flack_api::events::Operation>(operation.clone()).unwrap();
    }
}
