//! The client against the router over a real connection, and against faulty services.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    AWAY, DEFECT, FakeVerify, NOBODY, RETRY_AFTER_SECONDS, STRANGER, ask, base_url_of_nobody, caller, get, http,
    new_user, post_json, user, users,
};
use axum::{Router, body::Body, response::IntoResponse, routing::any};
use flack_api::{
    BasicCaller, Context, Problem, TokenCaller,
    messages::{MessagesApi, MessagesClient, types::NewMessage},
    messages_v2::{self, MessagesV2Client},
    users::{UsersApi, UsersClient, types},
};
use http::{HeaderMap, HeaderValue, StatusCode, header::ETAG};
use serde_json::json;
use tokio::net::TcpListener;
use uuid::Uuid;

/// More than any call here needs. A call that hangs fails the test.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn client_of(router: Router) -> UsersClient {
    UsersClient::new(&format!("http://{}", serve(router).await), http())
}

fn context() -> Context {
    Context { correlation_id: "test-1".to_owned(), ..Context::background() }
}

/// A service that gives every request the same response, and counts them.
fn constant_response(status: StatusCode, kind: &'static str, body: &'static str) -> (Router, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let router = Router::new().fallback(any(async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        (status, [("content-type", kind)], body).into_response()
    }));
    (router, count)
}

#[tokio::test]
async fn the_client_returns_the_result_of_the_handler_unchanged() {
    let client = client_of(users()).await;
    let created = client.create_user(&context(), new_user("älice")).await.unwrap();
    assert_eq!((created.location.as_str(), created.body), ("/api/users/1", user(1, "älice")));
    client.set_me_online(&context(), caller()).await.unwrap();
    client.set_me_offline(&context(), caller()).await.unwrap();
    let online = Some(types::ListUsersOnline::X1);
    let list = client.list_users(&context(), Some(caller()), online, Some(5)).await.unwrap();
    assert_eq!(list.users[0].nickname, "Some(7) Some(\"1\") Some(5)");
    let list = client.list_users(&context(), None, None, None).await.unwrap();
    assert_eq!(list.users[0].nickname, "None None None");
    let me = BasicCaller { nickname: "alice".to_owned(), password: "s:ecret".into() };
    assert_eq!(client.get_me(&context(), me).await.unwrap(), user(7, "alice"));
}

#[tokio::test]
async fn the_client_sends_the_context_and_the_deadline() {
    let client = client_of(users()).await;
    let client_address = Some("192.0.2.7".parse().unwrap());
    let context = Context { traceparent: Some("00-1-2-01".to_owned()), client_address, ..context() };
    let received = client.get_user(&context, None, 1).await.unwrap().nickname;
    assert_eq!(received, "test-1 Some(\"00-1-2-01\") true Some(192.0.2.7)");
}

#[tokio::test]
async fn the_client_returns_the_problem_of_the_handler_unchanged() {
    let client = client_of(users()).await;
    let problem = async |id| client.get_user(&context(), None, id).await.unwrap_err();
    let here = |problem: Problem| Problem { correlation_id: Some("test-1".to_owned()), ..problem };
    assert_eq!(problem(NOBODY).await, here(Problem::not_found("nobody has this id")));
    assert_eq!(problem(DEFECT).await, here(Problem::internal()));
    let away = here(Problem::unavailable("the database"));
    assert_eq!(problem(AWAY).await, Problem { retry_after_seconds: Some(RETRY_AFTER_SECONDS), ..away });
    assert_eq!(problem(0).await.status, 400);

    let update = client.update_user(&context(), caller(), STRANGER, types::UserUpdate::default()).await;
    assert_eq!(update.unwrap_err(), here(Problem::forbidden("this is somebody else")));
    let taken = client.create_user(&context(), new_user("taken")).await.unwrap_err();
    assert_eq!(taken, here(Problem::conflict("nickname-taken", "the nickname is taken")));
    let wrong = BasicCaller { nickname: "alice".to_owned(), password: "wrong".into() };
    let wrong = client.get_me(&context(), wrong).await.unwrap_err();
    assert_eq!(wrong, here(Problem::unauthorized("the nickname or the password is wrong")));
    let forged = TokenCaller { token: "forged".into(), ..caller() };
    assert_eq!(client.set_me_online(&context(), forged).await.unwrap_err().status, 401);
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_unavailable() {
    let client = UsersClient::new(&base_url_of_nobody(), http());
    let problem = client.get_user(&context(), None, 1).await.unwrap_err();
    assert_eq!(problem, Problem::unavailable("users"));
}

#[tokio::test]
async fn a_call_without_a_response_ends_at_the_deadline() {
    let client = client_of(Router::new().fallback(any(std::future::pending::<()>))).await;
    let started = Instant::now();
    let context = Context { deadline: Some(started + Duration::from_millis(50)), ..context() };
    assert_eq!(client.get_user(&context, None, 1).await.unwrap_err(), Problem::unavailable("users"));
    assert!(started.elapsed() < CALL_TIMEOUT, "it took {:?}", started.elapsed());
    let late = client.get_user(&context, None, 1).await.unwrap_err();
    assert_eq!(late, Problem::unavailable("users"), "the deadline was over before the call");
}

#[tokio::test]
async fn a_read_that_an_instance_does_not_answer_is_sent_again_before_the_deadline_but_no_password_is() {
    let absent = r#"{"type": "t", "title": "t", "status": 404, "detail": "nobody"}"#;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let router = Router::new().fallback(any(async move || {
        if counted.fetch_add(1, Ordering::SeqCst) == 0 {
            std::future::pending::<()>().await;
        }
        (StatusCode::NOT_FOUND, [("content-type", "application/problem+json")], absent)
    }));
    let client = client_of(router).await;
    let context = || Context { deadline: Some(Instant::now() + Duration::from_millis(200)), ..context() };
    assert_eq!(client.get_user(&context(), None, 1).await.unwrap_err().status, 404);

    assert_eq!(count.swap(0, Ordering::SeqCst), 2);
    let me = BasicCaller { nickname: "alice".to_owned(), password: "secret".into() };
    assert_eq!(client.get_me(&context(), me).await.unwrap_err(), Problem::unavailable("users"));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_unavailable_service_is_called_again_where_a_retry_is_safe() {
    let busy = r#"{"type": "t", "title": "t", "status": 503, "detail": "busy"}"#;
    let (router, count) = constant_response(StatusCode::SERVICE_UNAVAILABLE, "application/problem+json", busy);
    let address = serve(router).await;
    let attempts = || count.swap(0, Ordering::SeqCst);

    let client = UsersClient::new(&format!("http://{address}"), http());
    assert_eq!(client.get_user(&context(), None, 1).await.unwrap_err().detail, "busy");
    assert_eq!(attempts(), 3);
    client.set_me_offline(&context(), caller()).await.unwrap_err();
    assert_eq!(attempts(), 3);
    client.create_user(&context(), new_user("alice")).await.unwrap_err();
    assert_eq!(attempts(), 1, "a second POST may register twice");

    let client = MessagesClient::new(&format!("http://{address}"), http());
    let message = || NewMessage { source: "hello".parse().unwrap() };
    client.create_message(&context(), caller(), None, message()).await.unwrap_err();
    assert_eq!(attempts(), 1);
    client.create_message(&context(), caller(), Some(Uuid::nil()), message()).await.unwrap_err();
    assert_eq!(attempts(), 3, "its key makes a POST safe");
}

#[tokio::test]
async fn only_unavailable_is_retried() {
    let defect = r#"{"type": "t", "title": "t", "status": 500, "detail": "a defect"}"#;
    let (router, count) = constant_response(StatusCode::INTERNAL_SERVER_ERROR, "application/problem+json", defect);
    client_of(router).await.get_user(&context(), None, 1).await.unwrap_err();
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_response_that_does_not_match_the_schema_is_an_internal_error() {
    for (status, body) in [
        (StatusCode::OK, "{}"),
        (StatusCode::OK, "not JSON"),
        (StatusCode::NO_CONTENT, ""),
        (StatusCode::FOUND, ""),
        (StatusCode::NOT_FOUND, "no problem"),
        (StatusCode::INTERNAL_SERVER_ERROR, "<h1>oops</h1>"),
    ] {
        let (router, _) = constant_response(status, "application/json", body);
        let problem = client_of(router).await.get_user(&context(), None, 1).await.unwrap_err();
        assert_eq!(problem, Problem::internal(), "{status} {body}");
    }
    let user = r#"{"id":1,"created_at":1,"updated_at":1,"last_seen_at":1,"nickname":"a","online":true,
                   "_links":{"self":"s","messages":"m","tokens":"t"}}"#;
    let (router, _) = constant_response(StatusCode::CREATED, "application/json", user);
    let problem = client_of(router).await.create_user(&context(), new_user("a")).await.unwrap_err();
    assert_eq!(problem, Problem::internal(), "Location is missing");
}

#[tokio::test]
async fn a_proxy_without_a_server_counts_as_unavailable() {
    for status in [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT] {
        let (router, _) = constant_response(status, "text/html", "<h1>no server is available</h1>");
        let problem = client_of(router).await.get_user(&context(), None, 1).await.unwrap_err();
        assert_eq!(problem, Problem::unavailable("users"));
    }
}

#[tokio::test]
async fn path_and_query_are_encoded_and_nothing_else_is_sent() {
    let echo = Router::new().fallback(any(async |headers: HeaderMap, uri: http::Uri| {
        let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
        Problem::not_found(format!("{uri} {key:?} {}", headers.contains_key("authorization")))
    }));
    let address = serve(echo).await;
    let client = MessagesClient::new(&format!("http://{address}/below/"), http());
    let received = client.list_messages(&context(), None, Some(1), None).await.unwrap_err();
    assert_eq!(received.detail, "/below/api/messages?updated_since=1 None false");
    let key = Uuid::nil();
    let message = NewMessage { source: "hello".parse().unwrap() };
    let received = client.create_message(&context(), caller(), Some(key), message).await.unwrap_err();
    assert_eq!(received.detail, format!("/below/api/messages Some(\"{key}\") true"));
}

const CHANNEL: &str =
    r#"{"id":7,"name":"n","kind":"direct","topic":"","created_at":"2026-01-01T00:00:00Z","version":3}"#;

/// The router of messages in front of a client of this service.
async fn forwarded(service: Router) -> Router {
    let client = MessagesV2Client::new(&format!("http://{}", serve(service).await), http());
    messages_v2::router(Arc::new(client), Arc::new(FakeVerify))
}

#[tokio::test]
async fn a_header_that_the_previous_version_does_not_send_is_absent_from_a_response_that_is_passed_on() {
    for tag in [None, Some("\"3\"")] {
        let router = forwarded(Router::new().fallback(any(async move || {
            let headers: HeaderMap = tag.map(|tag| (ETAG, HeaderValue::from_static(tag))).into_iter().collect();
            (headers, CHANNEL)
        })));
        let request = get("/api/v2/channels/7").header("authorization", "Bearer good").body(Body::empty()).unwrap();
        let answer = ask(router.await, request, StatusCode::OK).await;
        assert_eq!((answer.header("etag"), &answer.json["version"]), (tag, &json!(3)));
    }
}

#[tokio::test]
async fn an_operation_that_finds_or_creates_passes_the_status_on() {
    for status in [StatusCode::OK, StatusCode::CREATED] {
        let router =
            forwarded(Router::new().fallback(any(async move || (status, [("location", "/channels/7")], CHANNEL))))
                .await;
        let mut request = post_json("/api/v2/channels", r#"{"kind":"direct","user_ids":[2]}"#);
        request.headers_mut().insert("authorization", HeaderValue::from_static("Bearer good"));
        let answer = ask(router, request, status).await;
        assert_eq!((answer.header("location"), &answer.json["id"]), (Some("/channels/7"), &json!(7)));
    }
}
