use axum::{
    Router,
    body::{Body, to_bytes},
    middleware::from_fn_with_state,
    routing::get,
};
use flack_api::BODY_BYTES_MAX;
use http::{StatusCode, header};
use tower::ServiceExt;

use super::*;

fn router() -> Router {
    let app = Router::new()
        .route("/slow", get(async || tokio::time::sleep(Duration::from_hours(1)).await))
        .route("/panic", get(async || -> () { panic!("expected by the test") }))
        .route("/asset", get(async || ([(header::CACHE_CONTROL, "no-cache")], "x")))
        .route("/page", get(async || (StatusCode::NOT_FOUND, axum::response::Html("<h1>gone</h1>"))))
        .route("/id", get(async |headers: HeaderMap| headers[CORRELATION_ID].to_str().unwrap().to_owned()));
    app.layer(from_fn_with_state(Requests::new("users", "users-1", "2").unwrap(), handle))
}

async fn get_with(path: &str, correlation_id: Option<&str>) -> (http::response::Parts, String) {
    let mut request = Request::get(path);
    if let Some(id) = correlation_id {
        request = request.header(CORRELATION_ID, id);
    }
    let response = router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(to_bytes(body, BODY_BYTES_MAX).await.unwrap().to_vec()).unwrap();
    (parts, text)
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_answered_with_503_at_its_deadline() {
    let started = tokio::time::Instant::now();
    let (parts, text) = get_with("/slow", Some("slow-one")).await;
    assert_eq!(started.elapsed().as_secs(), REQUEST_SECONDS_MAX);
    assert_eq!(parts.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(parts.headers[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(parts.headers[header::RETRY_AFTER], "1");
    assert!(text.contains("slow-one"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_in_time_is_answered_with_408() {
    let body = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let response = router().oneshot(Request::post("/id").body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn a_panic_is_answered_with_the_correlation_id_and_without_the_cause() {
    let (parts, text) = get_with("/panic", Some("p-1")).await;
    assert_eq!(parts.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.contains("p-1") && !text.contains("expected by the test"), "{text}");
}

#[tokio::test]
async fn a_valid_correlation_id_is_kept_and_passed_to_the_handler() {
    let (parts, text) = get_with("/id", Some("aB3._-")).await;
    assert_eq!(text, "aB3._-");
    assert_eq!(parts.headers[CORRELATION_ID], "aB3._-");
    assert_eq!(parts.headers[SERVICE], "users");
    assert_eq!(parts.headers[INSTANCE], "users-1");
    assert_eq!(parts.headers[VERSION], "2");
}

#[tokio::test]
async fn a_missing_or_invalid_correlation_id_is_replaced() {
    let long = "x".repeat(65);
    for invalid in [None, Some(""), Some("a b"), Some("a\"b"), Some("a/b"), Some(long.as_str())] {
        let (parts, text) = get_with("/id", invalid).await;
        assert!(text.parse::<Uuid>().is_ok(), "{invalid:?} became {text}");
        assert_eq!(parts.headers[CORRELATION_ID], text);
    }
}

#[tokio::test]
async fn no_answer_can_be_taken_for_another_type() {
    for path in ["/id", "/nothing", "/panic", "/page"] {
        let (parts, _) = get_with(path, None).await;
        assert_eq!(parts.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
    }
}

#[tokio::test]
async fn an_answer_to_a_request_with_credentials_is_not_cached_unless_the_handler_says_so() {
    let answer = async |path: &str, credentials: Option<&str>| {
        let mut request = Request::get(path);
        if let Some(credentials) = credentials {
            request = request.header(header::AUTHORIZATION, credentials);
        }
        let response = router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        response.headers().get(header::CACHE_CONTROL).map(|value| value.to_str().unwrap().to_owned())
    };
    for path in ["/id", "/nothing"] {
        assert_eq!(answer(path, Some("Bearer x")).await.as_deref(), Some("no-store"), "{path}");
        assert_eq!(answer(path, Some("Basic eDp5")).await.as_deref(), Some("no-store"), "{path}");
        assert_eq!(answer(path, None).await, None, "{path}");
    }
    assert_eq!(answer("/asset", Some("Bearer x")).await.as_deref(), Some("no-cache"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_slowly_sends_too_much_gets_413() {
    let chunks = futures::stream::iter([Ok::<_, std::io::Error>(vec![b'x'; BODY_BYTES_MAX + 1])]);
    let body = Body::from_stream(futures::StreamExt::chain(chunks, futures::stream::pending()));
    let response = router().oneshot(Request::post("/id").body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn a_browser_gets_every_problem_as_a_page() {
    for (path, status) in [("/nothing", 404), ("/slow", 503), ("/panic", 500)] {
        let request = Request::get(path).header(header::ACCEPT, "text/html,*/*;q=0.8").header(CORRELATION_ID, "b-1");
        let response = router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8", "{path}");
        let html = to_bytes(response.into_body(), BODY_BYTES_MAX).await.unwrap();
        let html = String::from_utf8_lossy(&html);
        assert!(html.contains("<h1>") && html.contains("b-1"), "{path}: {html}");
    }
}

#[tokio::test]
async fn an_error_page_of_a_handler_stays_a_page() {
    let (parts, text) = get_with("/page", None).await;
    assert_eq!(parts.status, StatusCode::NOT_FOUND);
    assert_eq!(text, "<h1>gone</h1>");
}

#[tokio::test]
async fn a_request_whose_client_disconnects_is_no_longer_counted_as_in_flight() {
    let requests = Requests::new("users", "users-1", "2").unwrap();
    let app = Router::new()
        .route("/slow", get(async || std::future::pending::<()>().await))
        .layer(from_fn_with_state(Arc::clone(&requests), handle));
    let mut answer = Box::pin(app.oneshot(Request::get("/slow").body(Body::empty()).unwrap()));
    assert!(futures::poll!(&mut answer).is_pending());
    assert_eq!(requests.in_flight(), 1);
    drop(answer);
    assert_eq!(requests.in_flight(), 0);
}
