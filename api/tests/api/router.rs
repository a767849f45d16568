//! Checks of the generated router before it calls a handler.

use crate::support::{Answer, NOBODY, ask, everything, get, post_json, users};
use axum::body::Body;
use flack_api::{BODY_BYTES_MAX, method_not_allowed_fallback, not_found_fallback};
use http::{Request, StatusCode, request::Builder};
use http_body_util::Limited;
use serde::Serialize;
use serde_json::{Value, json};

async fn send(request: Builder, expected: StatusCode) -> Answer {
    ask(users(), request.body(Body::empty()).expect("a request"), expected).await
}

async fn create(body: impl Into<Body>, expected: StatusCode) -> Answer {
    ask(users(), post_json("/api/users", body), expected).await
}

async fn create_named(nickname: impl Serialize, expected: StatusCode) -> Answer {
    create(json!({"nickname": nickname, "password": "x"}).to_string(), expected).await
}

/// A request with a good token and a JSON body.
async fn send_json(request: Builder, body: Value, expected: StatusCode) -> Answer {
    let request = request.header("authorization", "Bearer good").header("content-type", "application/json");
    ask(everything(), request.body(body.to_string().into()).expect("a request"), expected).await
}

// Credentials.

#[tokio::test]
async fn a_bearer_operation_needs_a_good_token() {
    send(Request::put("/api/users/me"), StatusCode::UNAUTHORIZED).await;
    let with = |value: &str| Request::put("/api/users/me").header("authorization", value);
    send(with("Bearer good"), StatusCode::NO_CONTENT).await;
    send(with("bearer good"), StatusCode::NO_CONTENT).await;
    for bad in ["Bearer bad", "Bearer ", "Bearer", "good", "", "Basic YWxpY2U6eA==", "Bearer good good"] {
        send(with(bad), StatusCode::UNAUTHORIZED).await;
    }
    send(with("Bearer good").header("authorization", "Bearer good"), StatusCode::UNAUTHORIZED).await;
}

#[tokio::test]
async fn a_token_that_cannot_be_checked_now_is_unavailable_not_unauthorized() {
    let request = Request::put("/api/users/me").header("authorization", "Bearer unknowable");
    assert!(send(request, StatusCode::SERVICE_UNAVAILABLE).await.detail().contains("the registry"));
}

#[tokio::test]
async fn an_optional_token_may_be_absent_but_not_bad() {
    let nickname = |answer: Answer| answer.json["users"][0]["nickname"].as_str().unwrap().to_owned();
    assert_eq!(nickname(send(get("/api/users"), StatusCode::OK).await), "None None None");
    let known = get("/api/users").header("authorization", "Bearer good");
    assert_eq!(nickname(send(known, StatusCode::OK).await), "Some(7) None None");
    send(get("/api/users").header("authorization", "Bearer bad"), StatusCode::UNAUTHORIZED).await;
    send(get("/api/users").header("authorization", "Basic YWxpY2U6eA=="), StatusCode::UNAUTHORIZED).await;
}

#[tokio::test]
async fn a_basic_operation_takes_nickname_and_password_up_to_the_first_colon() {
    let with = |value: &str| get("/api/users/me").header("authorization", value);
    // alice:s:ecret
    let answer = send(with("Basic YWxpY2U6czplY3JldA=="), StatusCode::OK).await;
    assert_eq!(answer.json["nickname"], "alice");
    // alice, without colon; bytes that are no UTF-8; no base64; no credentials; a token
    for bad in ["Basic YWxpY2U=", "Basic //4=", "Basic ?", "Basic ", "Basic", "Bearer good"] {
        send(with(bad), StatusCode::UNAUTHORIZED).await;
    }
    send(get("/api/users/me"), StatusCode::UNAUTHORIZED).await;
    send(with(&format!("Basic {}", "A".repeat(5000))), StatusCode::UNAUTHORIZED).await;
}

#[tokio::test]
async fn credentials_are_checked_before_parameters_and_body() {
    let bad = || Request::put("/api/users/x").header("content-type", "text/plain");
    let answer = ask(users(), bad().body("{".into()).unwrap(), StatusCode::UNAUTHORIZED).await;
    assert!(answer.detail().contains("token"));
    let token = bad().header("authorization", "Bearer good").body("{".into()).unwrap();
    let answer = ask(users(), token, StatusCode::BAD_REQUEST).await;
    assert_eq!(answer.detail(), "`id` has to be a whole number of at least 1");
}

// Parameters.

#[tokio::test]
async fn a_path_parameter_is_checked_against_the_document() {
    assert_eq!(send(get("/api/users/12"), StatusCode::OK).await.json["id"], 12);
    for bad in ["0", "-1", "x", "1x", "+1", "1.0", "99999999999999999999", "%20", "%ff", "%31%00"] {
        send(get(&format!("/api/users/{bad}")), StatusCode::BAD_REQUEST).await;
    }
    send(get(&format!("/api/users/{NOBODY}")), StatusCode::NOT_FOUND).await;
}

#[tokio::test]
async fn query_parameters_are_checked_against_the_document() {
    let answer = send(get("/api/users?online=1&updated_since=253402300799"), StatusCode::OK).await;
    assert_eq!(answer.json["users"][0]["nickname"], "None Some(\"1\") Some(253402300799)");
    for (query, detail) in [
        ("online=2", "`online` has to be one of 0, 1"),
        ("online=", "`online` has to be one of 0, 1"),
        ("online=1&online=1", "`online` was sent more than once"),
        ("updated_since=-1", "`updated_since` has to be a whole number from 0 to 253402300799"),
        ("updated_since=253402300800", "`updated_since` has to be a whole number from 0 to 253402300799"),
        ("updated_since=now", "`updated_since` has to be a whole number from 0 to 253402300799"),
        ("updated_since=%00", "`updated_since` has to be a whole number from 0 to 253402300799"),
    ] {
        let answer = send(get(&format!("/api/users?{query}")), StatusCode::BAD_REQUEST).await;
        assert_eq!(answer.detail(), detail, "{query}");
    }
}

#[tokio::test]
async fn an_unknown_query_parameter_is_ignored() {
    send(get("/api/users?colour=red&colour=blue"), StatusCode::OK).await;
}

#[tokio::test]
async fn a_header_parameter_is_checked_against_the_document() {
    const KEY: &str = "4d0c6d2e-4f0f-4b0f-8f3e-0a4e3f7f3a10";
    let post = async |keys: &[&str], expected| {
        let request = Request::post("/api/messages");
        let request = keys.iter().fold(request, |request, key| request.header("idempotency-key", *key));
        send_json(request, json!({"source": "hello"}), expected).await
    };
    post(&[], StatusCode::SERVICE_UNAVAILABLE).await;
    post(&[KEY], StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(post(&["1"], StatusCode::BAD_REQUEST).await.detail(), "`Idempotency-Key` has to be a UUID");
    post(&[KEY, KEY], StatusCode::BAD_REQUEST).await;
}

// Bodies.

#[tokio::test]
async fn a_source_has_a_visible_character_and_a_marker_is_at_least_one() {
    let put = async |path, body, expected| send_json(Request::put(path), body, expected).await;
    for blank in ["", " ", "\n\t", "\u{a0}\u{2003}\u{feff}"] {
        put("/api/messages/1", json!({"source": blank}), StatusCode::BAD_REQUEST).await;
    }
    put("/api/messages/1", json!({"source": "ä".repeat(8192)}), StatusCode::SERVICE_UNAVAILABLE).await;
    put("/api/messages/1", json!({"source": "ä".repeat(8193)}), StatusCode::BAD_REQUEST).await;

    let marker = "/api/ui/read_markers/general";
    put(marker, json!({"message_id": 1}), StatusCode::SERVICE_UNAVAILABLE).await;
    let answer = put(marker, json!({"message_id": 0}), StatusCode::BAD_REQUEST).await;
    assert_eq!(answer.detail(), "`message_id` has to be a whole number of at least 1");
    put("/api/ui/read_markers/Gener%C3%A4l", json!({"message_id": 1}), StatusCode::BAD_REQUEST).await;
    let preferences = json!({"theme": "red", "notifications": true});
    let answer = put("/api/ui/preferences", preferences, StatusCode::BAD_REQUEST).await;
    assert_eq!(answer.detail(), "`theme` has to be one of system, light, dark");
}

#[tokio::test]
async fn a_valid_body_reaches_the_handler_and_declared_headers_are_sent() {
    let answer =
        create(json!({"nickname": "älice", "password": "x", "more": 1}).to_string(), StatusCode::CREATED).await;
    assert_eq!(answer.header("location"), Some("/api/users/1"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.json["nickname"], "älice");
}

#[tokio::test]
async fn the_problem_of_an_invalid_body_names_the_field_and_what_is_allowed() {
    let nickname = "`nickname` has to be text of 1 to 32 characters without white space, colons and control characters";
    for bad in ["", "with space", "co:lon", "bell\u{7}", "del\u{7f}", "no\u{a0}break", &"x".repeat(33)] {
        assert_eq!(create_named(bad, StatusCode::BAD_REQUEST).await.detail(), nickname, "{bad:?}");
    }
    create_named("ä".repeat(32), StatusCode::CREATED).await;
    for bad in [json!(1), json!(null), json!(["x"]), json!({}), json!("ä".repeat(33))] {
        assert_eq!(create_named(bad, StatusCode::BAD_REQUEST).await.detail(), nickname);
    }
    let missing = create(json!({"nickname": "alice"}).to_string(), StatusCode::BAD_REQUEST).await;
    assert_eq!(missing.detail(), "`password` is missing; it has to be text of 1 to 128 characters");
    for bad in ["[]", "null", "1", "\"nickname\""] {
        assert_eq!(create(bad, StatusCode::BAD_REQUEST).await.detail(), "`body` has to be a JSON object");
    }
}

#[tokio::test]
async fn a_secret_in_a_bad_body_is_not_repeated() {
    let secret = "p4ssw0rd".repeat(20);
    let answer = create(json!({"nickname": "alice", "password": secret}).to_string(), StatusCode::BAD_REQUEST).await;
    assert!(!answer.json.to_string().contains("p4ssw0rd"));
}

#[tokio::test]
async fn a_body_that_is_not_valid_json_is_refused() {
    for bad in [
        r"",
        r"{",
        r#"{"nickname": "alice", "password": "x"} {"#,
        r#"{"nickname": "alice", "nickname": "mallory", "password": "x"}"#,
        r#"{"nickname": "alice", "password": "x", "more": {"a": 1, "a": 2}}"#,
        r#"{"nickname": "\ud800", "password": "x"}"#,
        r"{'nickname': 'alice'}",
    ] {
        let answer = create(bad, StatusCode::BAD_REQUEST).await;
        assert!(answer.detail().starts_with("the body is not valid JSON"), "{bad}: {}", answer.detail());
    }
    create(vec![b'"', 0xff, b'"'], StatusCode::BAD_REQUEST).await;
    create("[".repeat(60_000), StatusCode::BAD_REQUEST).await;
}

#[tokio::test]
async fn only_json_is_accepted_as_a_body() {
    let body = || Body::from(json!({"nickname": "alice", "password": "x"}).to_string());
    for kind in ["application/json", "Application/JSON; charset=utf-8"] {
        let request = Request::post("/api/users").header("content-type", kind).body(body()).unwrap();
        ask(users(), request, StatusCode::CREATED).await;
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
        let request = Request::post("/api/users").header("content-type", kind).body(body()).unwrap();
        ask(users(), request, StatusCode::UNSUPPORTED_MEDIA_TYPE).await;
    }
    let without = Request::post("/api/users").body(body()).unwrap();
    ask(users(), without, StatusCode::UNSUPPORTED_MEDIA_TYPE).await;
}

#[tokio::test]
async fn a_body_of_the_maximum_size_is_accepted_and_one_byte_more_is_refused() {
    let body = |bytes: usize| {
        let frame = json!({"nickname": "alice", "password": "x", "more": ""}).to_string().len();
        json!({"nickname": "alice", "password": "x", "more": "x".repeat(bytes - frame)}).to_string()
    };
    create(body(BODY_BYTES_MAX), StatusCode::CREATED).await;
    create(body(BODY_BYTES_MAX + 1), StatusCode::PAYLOAD_TOO_LARGE).await;
}

#[tokio::test]
async fn a_body_that_another_limit_cuts_off_is_too_large_too() {
    let body = Limited::new(Body::from(json!({"nickname": "alice", "password": "x"}).to_string()), 10);
    create(Body::new(body), StatusCode::PAYLOAD_TOO_LARGE).await;
}

// Responses.

#[tokio::test]
async fn a_declared_problem_is_sent_unchanged() {
    let answer = create_named("taken", StatusCode::CONFLICT).await;
    assert!(answer.json["type"].as_str().unwrap().ends_with("#nickname-taken"));
}

#[tokio::test]
async fn a_problem_that_the_operation_does_not_declare_becomes_an_internal_error() {
    create_named("undeclared", StatusCode::INTERNAL_SERVER_ERROR).await;
}

#[tokio::test]
async fn the_context_comes_from_the_headers() {
    let request = get("/api/users/1")
        .header("x-correlation-id", "Abc.1_2-3")
        .header("traceparent", "00-1-2-01")
        .header("x-deadline-ms", "500")
        .header("x-forwarded-for", "::ffff:192.0.2.7");
    let received = &send(request, StatusCode::OK).await.json["nickname"];
    assert_eq!(received, "Abc.1_2-3 Some(\"00-1-2-01\") true Some(192.0.2.7)");
}

#[tokio::test]
async fn an_address_that_the_balancer_did_not_write_is_ignored() {
    for bad in ["", "unknown", "192.0.2.7, 192.0.2.8", "192.0.2.7:80"] {
        let answer = send(get("/api/users/1").header("x-forwarded-for", bad), StatusCode::OK).await;
        assert!(answer.json["nickname"].as_str().unwrap().ends_with("false None"), "{bad}: {}", answer.json);
    }
}

#[tokio::test]
async fn a_correlation_id_is_made_when_it_is_absent_or_malformed() {
    for bad in [None, Some(""), Some("with space"), Some("line\tfeed"), Some(&*"x".repeat(65))] {
        let mut request = get(&format!("/api/users/{NOBODY}"));
        if let Some(bad) = bad {
            request = request.header("x-correlation-id", bad);
        }
        let answer = send(request, StatusCode::NOT_FOUND).await;
        let made = answer.json["correlation_id"].as_str().unwrap();
        assert!(uuid::Uuid::parse_str(made).is_ok(), "{made} was not made here");
    }
    let request = get(&format!("/api/users/{NOBODY}")).header("x-correlation-id", "mine");
    assert_eq!(send(request, StatusCode::NOT_FOUND).await.json["correlation_id"], "mine");
}

#[tokio::test]
async fn the_response_to_an_unknown_method_lists_the_known_ones() {
    let answer = send(Request::delete("/api/users/1"), StatusCode::METHOD_NOT_ALLOWED).await;
    assert_eq!(answer.header("allow"), Some("GET,HEAD,PUT"));
    let router = axum::Router::new()
        .route("/", axum::routing::get(async || ()))
        .method_not_allowed_fallback(method_not_allowed_fallback);
    ask(router, Request::put("/").body(Body::empty()).unwrap(), StatusCode::METHOD_NOT_ALLOWED).await;
}

#[tokio::test]
async fn an_unknown_path_is_a_problem_too() {
    let router = users().fallback(not_found_fallback);
    let answer = ask(router, get("/api/nothing").body(Body::empty()).unwrap(), StatusCode::NOT_FOUND).await;
    assert_eq!(answer.detail(), "there is nothing at /api/nothing");
}
