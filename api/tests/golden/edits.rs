//! Tests of the comparison: the label of each kind of edit.

use crate::compare;

const OPENAPI: &str = "
openapi: 3.0.3
info: { title: things, version: 1.0.0 }
security: [{ bearer: [] }]
paths:
  /api/things:
    post:
      operationId: create_thing
      summary: Create.
      requestBody:
        required: true
        content: { application/json: { schema: { $ref: '#/components/schemas/NewThing' } } }
      responses:
        '201':
          description: It.
          headers: { Location: { required: true, schema: { type: string } } }
          content: { application/json: { schema: { $ref: '#/components/schemas/Thing' } } }
        '400': { $ref: '#/components/responses/BadRequest' }
    get:
      operationId: list_things
      summary: List.
      security: [{ bearer: [] }, {}]
      parameters:
        - { name: size, in: query, schema: { type: integer, format: int64, minimum: 1, maximum: 9 } }
      responses:
        '200': { description: All., content: { application/json: { schema: { $ref: '#/components/schemas/ThingList' } } } }
components:
  securitySchemes: { bearer: { type: http, scheme: bearer } }
  responses:
    BadRequest: { description: Bad., content: { application/problem+json: { schema: { $ref: '#/components/schemas/Problem' } } } }
  schemas:
    Problem: { type: object, required: [title], properties: { title: { type: string } } }
    NewThing:
      type: object
      required: [name]
      properties:
        name: { type: string, minLength: 1, maxLength: 32, pattern: '^a' }
        asked: { type: string, enum: [red, blue] }
        note: { type: string }
    Thing:
      type: object
      required: [id, name]
      properties:
        id: { type: integer, format: int64 }
        name: { type: string, maxLength: 40 }
        shown: { type: string, enum: [red, blue] }
        part: { $ref: '#/components/schemas/Thing' }
    ThingList: { type: object, required: [things], properties: { things: { type: array, items: { $ref: '#/components/schemas/Thing' } } } }
";

const FRAMES: &str = r##"{ "definitions": {
    "ClientFrame": { "oneOf": [
        { "type": "object", "required": ["type", "id"], "properties": { "type": { "type": "string", "enum": ["post"] },
          "id": { "type": "string", "format": "uuid" }, "channel": { "type": "string", "maxLength": 64 } } },
        { "type": "object", "required": ["type"], "properties": { "type": { "type": "string", "enum": ["ping"] } } }
    ] },
    "ServerFrame": { "oneOf": [
        { "type": "object", "required": ["type", "class"], "properties": { "type": { "type": "string", "enum": ["updated"] },
          "class": { "$ref": "#/definitions/Class" }, "status": { "type": "integer" } } },
        { "type": "object", "required": ["type"], "properties": { "type": { "type": "string", "enum": ["expired"] } } }
    ] },
    "Class": { "type": "string", "enum": ["User", "Message"] }
} }"##;

const EVENTS: &str = r##"{ "definitions": {
    "UsersEvent": { "oneOf": [
        { "type": "object", "required": ["type", "data"],
          "properties": { "type": { "type": "string", "enum": ["user_changed"] }, "data": { "$ref": "#/definitions/UserModel" } } }
    ] },
    "UserModel": { "type": "object", "required": ["id", "nickname"],
        "properties": { "id": { "type": "integer", "format": "int64" }, "nickname": { "type": "string", "x-personal-data": true } } },
    "Spare": { "type": "string" }
} }"##;

const ASYNCAPI: &str = "
channels:
  users:
    title: Stream USERS
    address: flack.users.{type}.{entity_id}
    messages: { user_changed: {} }
";

const IN_OPENAPI: &str = "openapi/things.v1.yaml";
const IN_FRAMES: &str = "schemas/frames.schema.json";
const IN_ASYNCAPI: &str = "asyncapi/events.v1.yaml";
const IN_EVENTS: &str = "schemas/events.schema.json";

/// Replaces `before` by `after`, and returns a line with a label for each difference.
fn labels(name: &str, before: &str, after: &str) -> String {
    let old = match name {
        IN_OPENAPI => OPENAPI,
        IN_FRAMES => FRAMES,
        IN_ASYNCAPI => ASYNCAPI,
        _ => EVENTS,
    };
    assert_eq!(old.matches(before).count(), 1, "{before} is there once");
    let differences = compare(name, old, &old.replace(before, after));
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What is asked for or sent by others may only be treated more kindly.
#[test]
fn edits_that_break_those_who_write() {
    for (name, before, after, label) in [
        (IN_OPENAPI, "required: [name]", "required: [name, note]", "NewThing.note: is required now"),
        (IN_OPENAPI, "        note: { type: string }\n", "", "NewThing.note: the property is removed"),
        (
            IN_OPENAPI,
            "note: { type: string }",
            "note: { type: integer }",
            "NewThing.note: type is \"integer\", was \"string\"",
        ),
        (
            IN_OPENAPI,
            "note: { type: string }",
            "note: { type: string, pattern: x }",
            "NewThing.note: pattern is \"x\", was absent",
        ),
        (
            IN_OPENAPI,
            "asked: { type: string, enum: [red, blue] }",
            "asked: { type: string, enum: [red] }",
            "NewThing.asked: the value \"blue\" is removed",
        ),
        (IN_OPENAPI, "maxLength: 32", "maxLength: 31", "NewThing.name: maxLength is 31, was 32"),
        (IN_OPENAPI, "minLength: 1", "minLength: 2", "NewThing.name: minLength is 2, was 1"),
        (IN_OPENAPI, "pattern: '^a'", "pattern: '^b'", "NewThing.name: pattern is \"^b\", was \"^a\""),
        (
            IN_OPENAPI,
            "required: [name]\n",
            "required: [name]\n      additionalProperties: false\n",
            "NewThing: additionalProperties is false, was absent",
        ),
        (
            IN_OPENAPI,
            "name: size",
            "name: length",
            "GET /api/things query parameter size: the parameter is removed",
        ),
        (
            IN_OPENAPI,
            "in: query,",
            "in: query, required: true,",
            "GET /api/things query parameter size: is required now",
        ),
        (IN_OPENAPI, "maximum: 9", "maximum: 8", "GET /api/things query parameter size: maximum is 8, was 9"),
        (
            IN_OPENAPI,
            "[{ bearer: [] }, {}]",
            "[{ bearer: [] }]",
            "GET /api/things: security {} is no longer enough",
        ),
        (IN_OPENAPI, "scheme: bearer", "scheme: basic", "security bearer: is done in another way"),
        (IN_OPENAPI, "    get:", "    head:", "GET /api/things: the operation is removed"),
        (
            IN_OPENAPI,
            "operationId: list_things",
            "operationId: list",
            "GET /api/things: its operationId is \"list\", was \"list_things\"",
        ),
        (
            IN_FRAMES,
            r#""maxLength": 64"#,
            r#""maxLength": 8"#,
            "ClientFrame post.channel: maxLength is 8, was 64",
        ),
        (IN_FRAMES, r#"["ping"]"#, r#"["pong"]"#, "ClientFrame ping: the alternative is removed"),
        (
            IN_FRAMES,
            r#"["type", "id"]"#,
            r#"["type", "id", "channel"]"#,
            "ClientFrame post.channel: is required now",
        ),
    ] {
        let labels = labels(name, before, after);
        assert!(
            labels.lines().any(|line| line == format!("BREAKING: {label}")),
            "{before} -> {after}: {labels}"
        );
    }
}

/// What others read may only become more, and more certain.
#[test]
fn edits_that_break_those_who_read() {
    for (name, before, after, label) in [
        (IN_OPENAPI, "required: [id, name]", "required: [id]", "Thing.name: is optional now"),
        (
            IN_OPENAPI,
            "        shown: { type: string, enum: [red, blue] }\n",
            "",
            "Thing.shown: the property is removed",
        ),
        (
            IN_OPENAPI,
            "shown: { type: string, enum: [red, blue] }",
            "shown: { type: string, enum: [red, blue, green] }",
            "Thing.shown: the value \"green\" is new",
        ),
        (
            IN_OPENAPI,
            "shown: { type: string, enum: [red, blue] }",
            "shown: { type: string }",
            "Thing.shown: enum is absent, was [\"red\",\"blue\"]",
        ),
        (
            IN_OPENAPI,
            "id: { type: integer, format: int64 }",
            "id: { type: number }",
            "Thing.id: type is \"number\", was \"integer\"",
        ),
        (
            IN_OPENAPI,
            "id: { type: integer, format: int64 }",
            "id: { type: integer, format: int64, nullable: true }",
            "Thing.id: nullable is true, was absent",
        ),
        (IN_OPENAPI, "maxLength: 40", "maxLength: 41", "Thing.name: maxLength is 41, was 40"),
        (IN_OPENAPI, "'201':", "'202':", "POST /api/things 201: the status is removed"),
        (IN_OPENAPI, "'201':", "'202':", "POST /api/things 202: the status is new"),
        (
            IN_OPENAPI,
            "        '400': { $ref: '#/components/responses/BadRequest' }\n",
            "",
            "POST /api/things 400: the status is removed",
        ),
        (
            IN_OPENAPI,
            "          headers: { Location: { required: true, schema: { type: string } } }\n",
            "",
            "POST /api/things 201 header Location: the header is removed",
        ),
        (
            IN_OPENAPI,
            "Location: { required: true,",
            "Location: {",
            "POST /api/things 201 header Location: is optional now",
        ),
        (
            IN_OPENAPI,
            "application/problem+json",
            "application/json",
            "POST /api/things 400: application/problem+json is removed",
        ),
        (IN_OPENAPI, "required: [title]", "required: []", "Problem.title: is optional now"),
        (
            IN_OPENAPI,
            "items: { $ref: '#/components/schemas/Thing' }",
            "items: { type: integer }",
            "Thing: type is \"integer\", was \"object\"",
        ),
        (
            IN_FRAMES,
            r#"["User", "Message"]"#,
            r#"["User", "Message", "Channel"]"#,
            "Class: the value \"Channel\" is new",
        ),
        (IN_FRAMES, r#"["expired"]"#, r#"["ended"]"#, "ServerFrame expired: the alternative is removed"),
        (IN_EVENTS, r#"["id", "nickname"]"#, r#"["id"]"#, "UserModel.nickname: is optional now"),
        (
            IN_EVENTS,
            r#""integer", "format": "int64""#,
            r#""string""#,
            "UserModel.id: type is \"string\", was \"integer\"",
        ),
        (IN_EVENTS, r#""format": "int64""#, r#""const": 3"#, "UserModel.id: const is 3, was absent"),
        (IN_EVENTS, r#""UsersEvent""#, r#""PeopleEvent""#, "UsersEvent: the union is removed"),
        (IN_ASYNCAPI, "  users:", "  people:", "channel users: the channel is removed"),
        (IN_ASYNCAPI, "USERS", "PEOPLE", "channel users: title is \"Stream PEOPLE\", was \"Stream USERS\""),
        (
            IN_ASYNCAPI,
            "{entity_id}",
            "{id}",
            "channel users: address is \"flack.users.{type}.{id}\", was \"flack.users.{type}.{entity_id}\"",
        ),
        (IN_ASYNCAPI, "user_changed", "person_changed", "channel users: the message user_changed is removed"),
    ] {
        let labels = labels(name, before, after);
        assert!(
            labels.lines().any(|line| line == format!("BREAKING: {label}")),
            "{before} -> {after}: {labels}"
        );
    }
}

#[test]
fn edits_that_are_not_breaking() {
    for (name, before, after, label) in [
        (
            IN_OPENAPI,
            "note: { type: string }",
            "note: { type: string }\n        more: { type: string }",
            "NewThing.more: the property is new",
        ),
        (IN_OPENAPI, "required: [name]", "required: []", "NewThing.name: is optional now"),
        (
            IN_OPENAPI,
            "asked: { type: string, enum: [red, blue] }",
            "asked: { type: string, enum: [red, blue, green] }",
            "NewThing.asked: the value \"green\" is new",
        ),
        (IN_OPENAPI, "maxLength: 32", "maxLength: 33", "NewThing.name: maxLength is 33, was 32"),
        (IN_OPENAPI, ", pattern: '^a'", "", "NewThing.name: pattern is absent, was \"^a\""),
        (IN_OPENAPI, "minimum: 1", "minimum: 0", "GET /api/things query parameter size: minimum is 0, was 1"),
        (
            IN_OPENAPI,
            "id: { type: integer, format: int64 }",
            "id: { type: integer, format: int64 }\n        more: { type: string }",
            "Thing.more: the property is new",
        ),
        (IN_OPENAPI, "required: [id, name]", "required: [id, name, shown]", "Thing.shown: is required now"),
        (
            IN_OPENAPI,
            "shown: { type: string, enum: [red, blue] }",
            "shown: { type: string, enum: [red] }",
            "Thing.shown: the value \"blue\" is removed",
        ),
        (IN_OPENAPI, "maxLength: 40", "maxLength: 39", "Thing.name: maxLength is 39, was 40"),
        (
            IN_OPENAPI,
            "\n    get:",
            "\n    delete: { operationId: d, summary: D., responses: {} }\n    get:",
            "DELETE /api/things: the operation is new",
        ),
        (
            IN_OPENAPI,
            "        '201':",
            "        '409': { description: x }\n        '201':",
            "POST /api/things 409: the status is new",
        ),
        (
            IN_OPENAPI,
            "headers: {",
            "headers: { ETag: { schema: { type: string } },",
            "POST /api/things 201 header ETag: the header is new",
        ),
        (
            IN_OPENAPI,
            "parameters:\n",
            "parameters:\n        - { name: more, in: query, schema: { type: string } }\n",
            "GET /api/things query parameter more: the parameter is new",
        ),
        (
            IN_OPENAPI,
            "      summary: Create.\n",
            "      summary: Create.\n      security: []\n",
            "POST /api/things: needs no credentials now",
        ),
        (
            IN_FRAMES,
            r#"["ping"]"#,
            r#"["ping"] } } }, { "properties": { "type": { "enum": ["more"]"#,
            "ClientFrame more: the alternative is new",
        ),
        (
            IN_FRAMES,
            r#"["expired"]"#,
            r#"["expired"] } } }, { "properties": { "type": { "enum": ["more"]"#,
            "ServerFrame more: the alternative is new",
        ),
        (
            IN_EVENTS,
            r#""oneOf": ["#,
            r#""oneOf": [{ "properties": { "type": { "enum": ["more"] } } },"#,
            "UsersEvent more: the alternative is new",
        ),
        (
            IN_EVENTS,
            r#""x-personal-data": true"#,
            r#""x-personal-data": false"#,
            "UserModel.nickname: x-personal-data is false, was true",
        ),
        (IN_ASYNCAPI, "{ user", "{ more: {}, user", "channel users: the message more is new"),
        (IN_ASYNCAPI, "channels:", "channels:\n  more: {}", "channel more: the channel is new"),
    ] {
        assert_eq!(labels(name, before, after), format!("not breaking: {label}"), "{before} -> {after}");
    }
}

#[test]
fn descriptions_order_and_unused_definitions_are_no_differences() {
    for (name, before, after) in [
        (IN_OPENAPI, "summary: Create.", "summary: Make one.\n      description: At length."),
        (IN_OPENAPI, "version: 1.0.0", "version: 1.0.1"),
        (IN_OPENAPI, "required: [id, name]", "required: [name, id]"),
        (IN_OPENAPI, "enum: [red, blue] }\n        note", "enum: [blue, red] }\n        note"),
        (IN_OPENAPI, "required: [id, name]\n", "required: [id, name]\n      additionalProperties: true\n"),
        (IN_OPENAPI, "    ThingList:", "    Unused: { type: string }\n    ThingList:"),
        (IN_OPENAPI, "title: { type: string }", "title: { type: string, description: What. }"),
        (IN_FRAMES, r#""maxLength": 64"#, r#""maxLength": 64, "x-secret": true"#),
        (IN_EVENTS, r#""Spare": { "type": "string" }"#, r#""Spare": { "type": "integer" }"#),
    ] {
        assert_eq!(labels(name, before, after), "", "{before} -> {after}");
    }
}
