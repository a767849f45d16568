//! Tests of the comparison: the label of each kind of edit. An edit is written as `before -> after -> label`.

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
        '200':
          description: All.
          content: { application/json: { schema: { $ref: '#/components/schemas/ThingList' } } }
components:
  securitySchemes: { bearer: { type: http, scheme: bearer } }
  responses:
    BadRequest:
      description: Bad.
      content: { application/problem+json: { schema: { $ref: '#/components/schemas/Problem' } } }
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
    ThingList:
      type: object
      required: [things]
      properties: { things: { type: array, items: { $ref: '#/components/schemas/Thing' } } }
";

const FRAMES: &str = r##"{ "definitions": {
    "ClientFrame": { "oneOf": [
        { "type": "object", "required": ["type", "id"], "properties": { "type": { "type": "string", "enum": ["post"] },
          "id": { "type": "string", "format": "uuid" }, "channel": { "type": "string", "maxLength": 64 } } },
        { "type": "object", "required": ["type"], "properties": { "type": { "type": "string", "enum": ["ping"] } } }
    ] },
    "ServerFrame": { "oneOf": [
        { "type": "object", "required": ["type", "class"],
          "properties": { "type": { "type": "string", "enum": ["updated"] },
                          "class": { "$ref": "#/definitions/Class" }, "status": { "type": "integer" } } },
        { "type": "object", "required": ["type"], "properties": { "type": { "type": "string", "enum": ["expired"] } } }
    ] },
    "Class": { "type": "string", "enum": ["User", "Message"] }
} }"##;

const EVENTS: &str = r##"{ "definitions": {
    "UsersEvent": { "oneOf": [
        { "type": "object", "required": ["type", "data"],
          "properties": { "type": { "type": "string", "enum": ["user_changed"] },
                          "data": { "$ref": "#/definitions/UserModel" } } }
    ] },
    "UserModel": { "type": "object", "required": ["id", "nickname"],
        "properties": { "id": { "type": "integer", "format": "int64" },
                        "nickname": { "type": "string", "x-personal-data": true } } },
    "Spare": { "type": "string" }
} }"##;

const ASYNCAPI: &str = "
channels:
  users:
    title: Stream USERS
    address: flack.users.{type}.{entity_id}
    messages: { user_changed: {} }
";

const DOCUMENTS: [(&str, &str); 4] = [
    ("openapi/things.v1.yaml", OPENAPI),
    ("schemas/frames.schema.json", FRAMES),
    ("schemas/events.schema.json", EVENTS),
    ("asyncapi/events.v1.yaml", ASYNCAPI),
];

/// Edits the only document that contains `before`. Returns a line for each difference, and the expected label.
fn compare_edited(edit: &'static str) -> (Vec<String>, &'static str) {
    let (before, rest) = edit.split_once(" -> ").expect("an edit has two parts");
    let (after, label) = rest.split_once(" -> ").unwrap_or((rest, ""));
    let edited = DOCUMENTS.into_iter().filter(|(_, text)| text.contains(before)).collect::<Vec<_>>();
    let [(name, text)] = edited[..] else { panic!("{before} is in {} documents", edited.len()) };
    assert_eq!(text.matches(before).count(), 1, "{before} is in {name} once");
    let differences = compare(name, text, &text.replace(before, after));
    (differences.iter().map(ToString::to_string).collect(), label)
}

fn assert_breaking(edits: &[&'static str]) {
    for (edit, (labels, label)) in edits.iter().map(|edit| (edit, compare_edited(edit))) {
        assert!(labels.contains(&format!("BREAKING: {label}")), "{edit}: {labels:?}");
    }
}

#[test]
fn an_edit_that_accepts_less_from_clients_is_breaking() {
    assert_breaking(&[
        "required: [name] -> required: [name, note] -> NewThing.note: is required now",
        "        note: { type: string }\n ->  -> NewThing.note: the property is removed",
        "note: { type: string } -> note: { type: integer } \
         -> NewThing.note: type is \"integer\", was \"string\"",
        "note: { type: string } -> note: { type: string, pattern: x } \
         -> NewThing.note: pattern is \"x\", was absent",
        "asked: { type: string, enum: [red, blue] } -> asked: { type: string, enum: [red] } \
         -> NewThing.asked: the value \"blue\" is removed",
        "maxLength: 32 -> maxLength: 31 -> NewThing.name: maxLength is 31, was 32",
        "minLength: 1 -> minLength: 2 -> NewThing.name: minLength is 2, was 1",
        r#"pattern: '^a' -> pattern: '^b' -> NewThing.name: pattern is "^b", was "^a""#,
        "required: [name]\n -> required: [name]\n      additionalProperties: false\n \
         -> NewThing: additionalProperties is false, was absent",
        "name: size -> name: length -> GET /api/things query parameter size: the parameter is removed",
        "in: query, -> in: query, required: true, \
         -> GET /api/things query parameter size: is required now",
        "maximum: 9 -> maximum: 8 -> GET /api/things query parameter size: maximum is 8, was 9",
        "[{ bearer: [] }, {}] -> [{ bearer: [] }] -> GET /api/things: security {} is no longer enough",
        "scheme: bearer -> scheme: basic -> security bearer: is done in another way",
        "    get: ->     head: -> GET /api/things: the operation is removed",
        "operationId: list_things -> operationId: list \
         -> GET /api/things: its operationId is \"list\", was \"list_things\"",
        r#""maxLength": 64 -> "maxLength": 8 -> ClientFrame post.channel: maxLength is 8, was 64"#,
        r#"["ping"] -> ["pong"] -> ClientFrame ping: the alternative is removed"#,
        r#"["type", "id"] -> ["type", "id", "channel"] -> ClientFrame post.channel: is required now"#,
    ]);
}

#[test]
fn an_edit_that_promises_less_to_clients_is_breaking() {
    assert_breaking(&[
        "required: [id, name] -> required: [id] -> Thing.name: is optional now",
        "        shown: { type: string, enum: [red, blue] }\n ->  \
         -> Thing.shown: the property is removed",
        "shown: { type: string, enum: [red, blue] } -> shown: { type: string, enum: [red, blue, green] } \
         -> Thing.shown: the value \"green\" is new",
        "shown: { type: string, enum: [red, blue] } -> shown: { type: string } \
         -> Thing.shown: enum is absent, was [\"red\",\"blue\"]",
        "id: { type: integer, format: int64 } -> id: { type: number } \
         -> Thing.id: type is \"number\", was \"integer\"",
        "id: { type: integer, format: int64 } -> id: { type: integer, format: int64, nullable: true } \
         -> Thing.id: nullable is true, was absent",
        "maxLength: 40 -> maxLength: 41 -> Thing.name: maxLength is 41, was 40",
        "'201': -> '202': -> POST /api/things 201: the status is removed",
        "'201': -> '202': -> POST /api/things 202: the status is new",
        "        '400': { $ref: '#/components/responses/BadRequest' }\n ->  \
         -> POST /api/things 400: the status is removed",
        "          headers: { Location: { required: true, schema: { type: string } } }\n ->  \
         -> POST /api/things 201 header Location: the header is removed",
        "Location: { required: true, -> Location: { \
         -> POST /api/things 201 header Location: is optional now",
        "application/problem+json -> application/json \
         -> POST /api/things 400 application/problem+json: the media type is removed",
        "required: [title] -> required: [] -> Problem.title: is optional now",
        "items: { $ref: '#/components/schemas/Thing' } -> items: { type: integer } \
         -> Thing: type is \"integer\", was \"object\"",
        r#"["User", "Message"] -> ["User", "Message", "Channel"] -> Class: the value "Channel" is new"#,
        r#"["expired"] -> ["ended"] -> ServerFrame expired: the alternative is removed"#,
        r#"["id", "nickname"] -> ["id"] -> UserModel.nickname: is optional now"#,
        r#""integer", "format": "int64" -> "string" -> UserModel.id: type is "string", was "integer""#,
        r#""format": "int64" -> "const": 3 -> UserModel.id: const is 3, was absent"#,
        r#""UsersEvent" -> "PeopleEvent" -> UsersEvent: the union is removed"#,
        "  users: ->   people: -> channel users: the channel is removed",
        r#"USERS -> PEOPLE -> channel users: title is "Stream PEOPLE", was "Stream USERS""#,
        "{entity_id} -> {id} \
         -> channel users: address is \"flack.users.{type}.{id}\", was \"flack.users.{type}.{entity_id}\"",
        "{ user_changed -> { person_changed -> channel users message user_changed: the message is removed",
    ]);
}

#[test]
fn an_edit_that_accepts_or_promises_more_is_not_breaking() {
    for edit in [
        "note: { type: string } -> note: { type: string }\n        more: { type: string } \
         -> NewThing.more: the property is new",
        "required: [name] -> required: [] -> NewThing.name: is optional now",
        "asked: { type: string, enum: [red, blue] } -> asked: { type: string, enum: [red, blue, green] } \
         -> NewThing.asked: the value \"green\" is new",
        "maxLength: 32 -> maxLength: 33 -> NewThing.name: maxLength is 33, was 32",
        r#", pattern: '^a' ->  -> NewThing.name: pattern is absent, was "^a""#,
        "minimum: 1 -> minimum: 0 -> GET /api/things query parameter size: minimum is 0, was 1",
        "id: { type: integer, format: int64 } \
         -> id: { type: integer, format: int64 }\n        more: { type: string } \
         -> Thing.more: the property is new",
        "required: [id, name] -> required: [id, name, shown] -> Thing.shown: is required now",
        "shown: { type: string, enum: [red, blue] } -> shown: { type: string, enum: [red] } \
         -> Thing.shown: the value \"blue\" is removed",
        "maxLength: 40 -> maxLength: 39 -> Thing.name: maxLength is 39, was 40",
        "\n    get: -> \n    delete: { operationId: d, summary: D., responses: {} }\n    get: \
         -> DELETE /api/things: the operation is new",
        "        '201': ->         '409': { description: x }\n        '201': \
         -> POST /api/things 409: the status is new",
        "headers: { -> headers: { ETag: { schema: { type: string } }, \
         -> POST /api/things 201 header ETag: the header is new",
        "parameters:\n -> parameters:\n        - { name: more, in: query, schema: { type: string } }\n \
         -> GET /api/things query parameter more: the parameter is new",
        "      summary: Create.\n ->       summary: Create.\n      security: []\n \
         -> POST /api/things: needs no credentials now",
        "[\"ping\"] -> [\"ping\"] } } }, { \"properties\": { \"type\": { \"enum\": [\"more\"] \
         -> ClientFrame more: the alternative is new",
        "[\"expired\"] -> [\"expired\"] } } }, { \"properties\": { \"type\": { \"enum\": [\"more\"] \
         -> ServerFrame more: the alternative is new",
        "\"UsersEvent\": { \"oneOf\": [ \
         -> \"UsersEvent\": { \"oneOf\": [{ \"properties\": { \"type\": { \"enum\": [\"more\"] } } }, \
         -> UsersEvent more: the alternative is new",
        "\"x-personal-data\": true -> \"x-personal-data\": false \
         -> UserModel.nickname: x-personal-data is false, was true",
        "{ user -> { more: {}, user -> channel users message more: the message is new",
        "channels: -> channels:\n  more: {} -> channel more: the channel is new",
    ] {
        let (labels, label) = compare_edited(edit);
        assert_eq!(labels, [format!("not breaking: {label}")], "{edit}");
    }
}

#[test]
fn descriptions_order_and_unused_definitions_are_no_differences() {
    for edit in [
        "summary: Create. -> summary: Make one.\n      description: At length.",
        "version: 1.0.0 -> version: 1.0.1",
        "required: [id, name] -> required: [name, id]",
        "enum: [red, blue] }\n        note -> enum: [blue, red] }\n        note",
        "required: [id, name]\n -> required: [id, name]\n      additionalProperties: true\n",
        "    ThingList: ->     Unused: { type: string }\n    ThingList:",
        "title: { type: string } -> title: { type: string, description: What. }",
        r#""maxLength": 64 -> "maxLength": 64, "x-secret": true"#,
        r#""Spare": { "type": "string" } -> "Spare": { "type": "integer" }"#,
    ] {
        assert!(compare_edited(edit).0.is_empty(), "{edit}");
    }
}
