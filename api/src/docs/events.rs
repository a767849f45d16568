//! The page of events and frames, made of the AsyncAPI document and the JSON Schemas that it refers to.

use std::sync::LazyLock;

use askama::Template;
use serde_json::Value;

use super::schemas::{Member, kind, members, text};
use crate::{events, frames};

pub static PAGE: LazyLock<String> =
    LazyLock::new(|| Page::new().render().expect("a template without failing filters renders"));

#[derive(Template)]
#[template(path = "events.html")]
struct Page {
    introduction: String,
    envelope: Vec<Member>,
    streams: Vec<Stream>,
    events: Vec<Told>,
    models: Vec<Shape>,
    websocket: String,
    client_frames: Vec<Told>,
    server_frames: Vec<Told>,
    values: Vec<Shape>,
}

struct Stream {
    title: String,
    address: String,
    description: String,
    events: Vec<String>,
}

/// An event or a frame.
struct Told {
    name: String,
    description: String,
    members: Vec<Member>,
    examples: Vec<String>,
}

/// A definition that others refer to: a model with members, or a single value.
struct Shape {
    name: String,
    description: String,
    kind: String,
    members: Vec<Member>,
}

impl Page {
    fn new() -> Self {
        let document: Value = serde_yaml_ng::from_str(events::DOCUMENT).expect("a test reads it too");
        let [envelope, models, frames] =
            [events::ENVELOPE_SCHEMA, events::SCHEMA, frames::SCHEMA].map(|schema| {
                serde_json::from_str::<Value>(schema).expect("build/ made types of it, or a test reads it")
            });
        let messages = &document["components"]["messages"];
        let told = |union: &Value, side: &str| -> Vec<Told> {
            let alternatives = union["oneOf"].as_array().into_iter().flatten();
            alternatives
                .map(|alternative| {
                    let name = word(&alternative["title"]);
                    let message = &messages[format!("{side}{name}")];
                    Told {
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
            // The monolith owns at first what all others own later.
            events: told(&models["definitions"]["MonolithEvent"], ""),
            models: shapes(&models["definitions"], |_, shape| shape["properties"].is_object()),
            websocket: text(&document["channels"]["websocket"]["description"]),
            client_frames: told(&frames["definitions"]["ClientFrame"], "client_"),
            server_frames: told(&frames["definitions"]["ServerFrame"], "server_"),
            values: shapes(&frames["definitions"], |name, _| !name.ends_with("Frame")),
        }
    }
}

fn streams(channels: &Value) -> Vec<Stream> {
    let channels = channels.as_object().into_iter().flatten().map(|(_, channel)| channel);
    channels
        .filter(|channel| channel["x-union"].is_object())
        .map(|channel| Stream {
            title: word(&channel["title"]),
            address: word(&channel["address"]),
            description: text(&channel["description"]),
            events: channel["messages"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect(),
        })
        .collect()
}

fn shapes(definitions: &Value, is_shown: fn(&str, &Value) -> bool) -> Vec<Shape> {
    let definitions = definitions.as_object().into_iter().flatten();
    definitions
        .filter(|(name, shape)| is_shown(name, shape))
        .map(|(name, shape)| Shape {
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
