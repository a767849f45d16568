//! The generator refuses keywords that the router would not check.

#[path = "../build/document.rs"]
#[expect(dead_code, reason = "only the code that reads a document is tested here")]
mod document;
#[path = "../build/operation.rs"]
#[expect(dead_code, reason = "only the code that reads a document is tested here")]
mod operation;
#[path = "../build/schema.rs"]
mod schema;
#[path = "../build/shapes.rs"]
mod shapes;

use document::Document;

/// The response of the operation in `text`.
const SUCCESS: &str = "'204': { description: x }";

fn document(schema: &str, parameters: &str, statuses: &[u16]) -> Result<(), String> {
    Document::parse("things.v1.yaml", &text(schema, parameters, statuses)).map(drop)
}

/// A document with one operation; `schema` is that of its body, `parameters` and `statuses` go into the operation.
fn text(schema: &str, parameters: &str, statuses: &[u16]) -> String {
    let problem = "{ description: x, content: { application/problem+json: { schema: { type: object } } } }";
    let errors: Vec<String> = statuses.iter().map(|status| format!("        '{status}': {problem}")).collect();
    let errors = errors.join("\n");
    format!(
        "openapi: 3.0.3
info: {{ title: t, version: 1.0.0 }}
security: [{{ bearer: [] }}]
paths:
  /api/things/{{id}}:
    post:
      operationId: create_thing
      summary: Create.
      parameters: [{parameters}]
      requestBody:
        required: true
        content: {{ application/json: {{ schema: {{ $ref: '#/components/schemas/Thing' }} }} }}
      responses:
        {SUCCESS}
{errors}
components:
  schemas:
    Thing: {schema}
"
    )
}

const STATUSES: [u16; 6] = [400, 401, 413, 415, 429, 503];

#[test]
fn keywords_that_the_router_checks_are_accepted() {
    let schema = "{ type: object, required: [name], properties: {
        name: { type: string, minLength: 1, maxLength: 9, pattern: '^a', x-pattern-description: that starts with a },
        size: { type: integer, format: int64, minimum: 1 }, tag: { type: string, enum: [a, b] },
        on: { type: boolean }, key: { type: string, format: uuid }, rate: { type: number },
        ids: { type: array, minItems: 1, maxItems: 3, items: { type: integer, format: int64, minimum: 1 } } } }";
    document(schema, "", &STATUSES).unwrap();
}

#[test]
fn a_keyword_that_the_router_would_ignore_fails_the_build() {
    for (property, named) in [
        ("{ type: integer, format: int64, multipleOf: 2 }", "multipleOf"),
        ("{ type: integer, format: int64, minimum: 1, exclusiveMinimum: true }", "exclusiveMinimum"),
        ("{ type: integer, format: int64, maximum: 1, exclusiveMaximum: true }", "exclusiveMaximum"),
        ("{ type: integer, format: int64, enum: [1] }", "enum"),
        ("{ type: integer }", "format Empty of an integer"),
        ("{ type: integer, format: uint64 }", "format Unknown(\"uint64\") of an integer"),
        ("{ type: number, minimum: 1 }", "minimum"),
        ("{ type: boolean, enum: [true] }", "enum"),
        ("{ type: string, format: email }", "format Unknown(\"email\")"),
        ("{ type: string, format: date-time }", "format Item(DateTime)"),
        ("{ type: string, pattern: '(' }", "pattern ("),
        ("{ type: string, pattern: 'a' }", "x-pattern-description is missing"),
        ("{ type: string, nullable: true }", "nullable"),
        ("{ type: string, default: a }", "default"),
        ("{ type: array, items: { type: string } }", "maxItems is missing"),
        ("{ type: array, maxItems: 3 }", "items is missing"),
        ("{ type: array, maxItems: 3, uniqueItems: true, items: { type: string } }", "uniqueItems"),
        ("{ type: array, maxItems: 3, items: { type: string, format: email } }", "items: format"),
        ("{ type: object, additionalProperties: false }", "additionalProperties"),
        ("{ type: object, minProperties: 1 }", "minProperties"),
        ("{ type: object, maxProperties: 1 }", "maxProperties"),
        ("{ oneOf: [{ type: string }] }", "oneOf"),
        ("{ allOf: [{ type: string }] }", "allOf"),
        ("{ anyOf: [{ type: string }] }", "anyOf"),
        ("{ not: { type: string } }", "not"),
        ("{ $ref: '#/components/schemas/Thing' }", "contains itself"),
        ("{ $ref: '#/components/schemas/Nothing' }", "Nothing is missing"),
    ] {
        let problem =
            document(&format!("{{ type: object, properties: {{ it: {property} }} }}"), "", &STATUSES).unwrap_err();
        assert!(problem.contains(named) && problem.contains("schema Thing: it: "), "{property}: {problem}");
    }
}

#[test]
fn a_parameter_is_checked_in_the_same_way() {
    let parameter = |schema: &str| format!("{{ name: id, in: path, required: true, schema: {schema} }}");
    let good = parameter("{ type: integer, format: int64, minimum: 1 }");
    document("{ type: object }", &good, &STATUSES).unwrap();
    let bad = parameter("{ type: integer, format: int64, multipleOf: 2 }");
    let problem = document("{ type: object }", &bad, &STATUSES).unwrap_err();
    assert!(problem.starts_with("create_thing: parameter id: multipleOf"), "{problem}");
}

#[test]
fn every_status_of_the_router_itself_has_to_be_declared() {
    for missing in STATUSES {
        let statuses: Vec<u16> = STATUSES.into_iter().filter(|status| *status != missing).collect();
        let problem = document("{ type: object }", "", &statuses).unwrap_err();
        assert_eq!(problem, format!("create_thing: the router can respond with {missing}; declare it"));
    }
}

#[test]
fn two_statuses_of_success_are_200_and_201_of_the_same_response() {
    let body = "content: { application/json: { schema: { $ref: '#/components/schemas/Thing' } } }";
    let other = "headers: { ETag: { required: true, schema: { type: string } } }";
    let document = |responses: [(u16, &str); 2]| {
        let lines =
            responses.map(|(status, parts)| format!("'{status}': {{ description: x, {parts} }}")).join("\n        ");
        let text = text("{ type: object }", "", &STATUSES).replace(SUCCESS, &lines);
        Document::parse("things.v1.yaml", &text).map(drop)
    };
    document([(200, body), (201, body)]).unwrap();
    let problem = document([(200, body), (202, body)]).unwrap_err();
    assert_eq!(problem, "create_thing: two statuses of success are 200 (found) and 201 (created), in this order");
    let problem = document([(200, body), (201, other)]).unwrap_err();
    assert_eq!(problem, "create_thing: the statuses of success have other headers or bodies");
}
