//! The page of events and frames, made from the AsyncAPI document and its JSON Schemas.

use std::sync::LazyLock;

use askama::Template;
use serde_json::Value;

use super::schemas::{Member, entries, kind, members, text};
use crate::{events, frames, frames_v2};

pub static PAGE: LazyLock<String> =
    LazyLock::new(|| Page::new().render().expect("a template without failing filters renders"));

#[derive(Template)]
#[template(path = "events.html")]
struct Page {
    introduction: String,
    envelope: Vec<Member>,
    streams: Vec<Stream>,
    events: Vec<Message>,
    models: Vec<Definition>,
    websocket: String,
    client_frames: Vec<Message>,
    server_frames: Vec<Message>,
    values: Vec<Definition>,
    client_frames_v2: Vec<Message>,
    server_frames_v2: Vec<Message>,
}

struct Stream {
    title: String,
    address: String,
    description: String,
    events: Vec<String>,
}

/// An event or a frame.
struct Message {
    name: String,
    description: String,
    members: Vec<Member>,
    examples: Vec<String>,
}

/// A definition that others refer to: a model with members, or a single value.
struct Definition {
    name: String,
    description: String,
    kind: String,
    members: Vec<Member>,
}

impl Page {
    fn new() -> Self {
        let document: Value = serde_yaml_ng::from_str(events::DOCUMENT).expect("a test parses it");
        let [envelope, models, frames, frames_v2] =
            [events::ENVELOPE_SCHEMA, events::SCHEMA, frames::SCHEMA, frames_v2::SCHEMA]
                .map(|schema| serde_json::from_str::<Value>(schema).expect("build/ or a test parses it"));
        let messages = &document["components"]["messages"];
        let described = |union: &Value, channel: &str, side: &str| -> Vec<Message> {
            let listed = &document["channels"][channel]["messages"];
            let alternatives = union["oneOf"].as_array().into_iter().flatten();
            alternatives
                .map(|alternative| {
                    let name = word(&alternative["title"]);
                    let reference = word(&listed[format!("{side}{name}")]["$ref"]);
                    let message = &messages[reference.rsplit('/').next().unwrap_or_default()];
                    Message {
                        description: text(&message["summary"]),
                        members: members(alternative),
                        examples: examples(message),
                        name,
                    }
                })
                .collect()
        };
        Self {
            introduction: text(&document["info"]["description"]),
            envelope: members(&envelope),
            streams: streams(&document["channels"]),
            // The union of the monolith contains the events of all services.
            events: described(&models["definitions"]["MonolithEvent"], "monolith", ""),
            models: definitions(&models["definitions"], |_, shape| shape["properties"].is_object()),
            websocket: text(&document["channels"]["websocket"]["description"]),
            client_frames: described(&frames["definitions"]["ClientFrame"], "websocket", "client_"),
            server_frames: described(&frames["definitions"]["ServerFrame"], "websocket", "server_"),
            values: definitions(&frames["definitions"], |name, _| !name.ends_with("Frame")),
            client_frames_v2: described(&frames_v2["definitions"]["ClientFrame"], "websocket_v2", "client_"),
            server_frames_v2: described(&frames_v2["definitions"]["ServerFrame"], "websocket_v2", "server_"),
        }
    }
}

fn streams(channels: &Value) -> Vec<Stream> {
    entries(channels)
        .filter(|(_, channel)| channel["x-union"].is_object())
        .map(|(_, channel)| Stream {
            title: word(&channel["title"]),
            address: word(&channel["address"]),
            description: text(&channel["description"]),
            events: entries(&channel["messages"]).map(|(name, _)| name.clone()).collect(),
        })
        .collect()
}

fn definitions(schemas: &Value, is_shown: fn(&str, &Value) -> bool) -> Vec<Definition> {
    entries(schemas)
        .filter(|(name, shape)| is_shown(name, shape))
        .map(|(name, shape)| Definition {
            name: name.clone(),
            description: text(&shape["description"]),
            kind: kind(shape),
            members: members(shape),
        })
        .collect()
}

fn examples(message: &Value) -> Vec<String> {
    let examples = message["examples"].as_array().into_iter().flatten();
    examples.map(|example| format!("{:#}", example["payload"])).collect()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
