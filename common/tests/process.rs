//! The lifecycle and the HTTP behaviour of a process, as balancer and clients see them.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Bytes, routing::get};
use flack_api::FILE_BYTES_MAX;
use flack_catalogue::Service;
use flack_common::{
    http::client,
    process::{App, BODY_BYTES_MAX, Background, Identity, Readiness, serve},
    registry::ServiceDefinition,
};
use flack_testing::eventually_within;
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const TEST_TIMEOUT: Duration = Duration::from_mins(1);

/// A process without a registry, on a port of its own.
struct Process {
    base: String,
    http: Client,
    shutdown: CancellationToken,
    background: Background,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Process {
    async fn start(router: Router, readiness: Readiness) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let identity = Identity::new(ServiceDefinition::of(Service::named("users")), "users-1");
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let serving = tokio::spawn(serve(listener, shutdown.clone(), identity, |background| async move {
            sender.send(background).expect("the test waits for it");
            Ok((App { router, readiness }, None))
        }));
        Self { base, http: client(), shutdown, background: receiver.await.unwrap(), serving }
    }

    async fn call(&self, method: Method, path: &str, expected: StatusCode) -> reqwest::Response {
        let response = self.http.request(method, format!("{}{path}", self.base)).send().await.unwrap();
        assert_eq!(response.status(), expected, "{path}");
        assert_eq!(response.headers()["x-flack-instance"], "users-1");
        assert!(response.headers().contains_key("x-correlation-id"));
        response
    }

    async fn get(&self, path: &str, expected: StatusCode) -> Value {
        self.call(Method::GET, path, expected).await.json().await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(TEST_TIMEOUT, self.serving).await.expect("it did not stop").unwrap().unwrap();
    }
}

/// Returns the length of the body; panics at `/panic`.
fn app() -> Router {
    Router::new()
        .route("/things/{id}", get(async || "thing").post(async |body: Bytes| body.len().to_string()))
        .route("/panic", get(async || -> () { panic!("expected by the test") }))
}

#[tokio::test]
async fn unknown_paths_and_methods_are_answered_with_problem_details() {
    let process = Process::start(app(), Readiness::new()).await;
    let response = process.call(Method::GET, "/nowhere", StatusCode::NOT_FOUND).await;
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let id = response.headers()["x-correlation-id"].to_str().unwrap().to_owned();
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["correlation_id"], id);
    assert_eq!(problem["error"], problem["detail"]);

    let response = process.call(Method::DELETE, "/things/1", StatusCode::METHOD_NOT_ALLOWED).await;
    assert!(response.headers()["allow"].to_str().unwrap().contains("POST"));
    assert_eq!(response.json::<Value>().await.unwrap()["status"], 405);
    process.stop().await;
}

#[tokio::test]
async fn after_a_panic_the_next_request_is_served() {
    let process = Process::start(app(), Readiness::new()).await;
    let problem = process.get("/panic", StatusCode::INTERNAL_SERVER_ERROR).await;
    assert!(problem["type"].as_str().unwrap().ends_with("#internal"));
    process.call(Method::GET, "/things/1", StatusCode::OK).await;
    process.stop().await;
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_with_and_without_content_length() {
    let process = Process::start(app(), Readiness::new()).await;
    let url = format!("{}/things/1", process.base);
    let send = async |bytes: usize, chunked: bool| {
        let body = vec![b'x'; bytes];
        let body = if chunked {
            let chunks: Vec<_> = body.chunks(4096).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
            reqwest::Body::wrap_stream(futures::stream::iter(chunks))
        } else {
            body.into()
        };
        let response = process.http.post(&url).body(body).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    };
    for chunked in [false, true] {
        assert_eq!(send(BODY_BYTES_MAX, chunked).await, (StatusCode::OK, BODY_BYTES_MAX.to_string()));
        let (status, text) = send(BODY_BYTES_MAX + 1, chunked).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "chunked: {chunked}");
        assert!(text.contains("too-large"), "{text}");
    }
    process.stop().await;
}

#[tokio::test]
async fn a_file_needs_a_token_and_a_process_holds_a_limited_number_of_files() {
    let process = Process::start(app(), Readiness::new()).await;
    let send = async |token: Option<&str>| {
        let request =
            process.http.post(format!("{}/things/1", process.base)).header("Content-Type", "application/octet-stream");
        let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
        request.body(vec![b'x'; FILE_BYTES_MAX]).send().await.unwrap().status()
    };
    assert_eq!(send(None).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(send(Some("x")).await, StatusCode::OK);

    let mut slow = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(process.base.trim_start_matches("http://")).await.unwrap();
        let head = format!(
            "POST /things/1 HTTP/1.1\r\nHost: x\r\nAuthorization: x\r\nContent-Type: application/octet-stream\r\n\
             Content-Length: {FILE_BYTES_MAX}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    eventually_within(TEST_TIMEOUT, "a 503", async || send(Some("x")).await == StatusCode::SERVICE_UNAVAILABLE).await;
    drop(slow);
    eventually_within(TEST_TIMEOUT, "a place", async || send(Some("x")).await == StatusCode::OK).await;
    process.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_far_too_much_gets_an_answer_instead_of_a_connection_error() {
    let process = Process::start(app(), Readiness::new()).await;
    let mut stream = TcpStream::connect(process.base.trim_start_matches("http://")).await.unwrap();
    let body = vec![b'x'; 10 * BODY_BYTES_MAX];
    let head = format!("POST /things/1 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let mut answer = [0; 12];
    timeout(TEST_TIMEOUT, stream.read_exact(&mut answer)).await.expect("no answer").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    process.stop().await;
}

/// Sends bytes and returns everything that is answered until the server closes; fails when the connection is reset.
async fn exchange(process: &Process, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(process.base.trim_start_matches("http://")).await.unwrap();
    // The server may stop reading before everything is sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    timeout(TEST_TIMEOUT, stream.read_to_end(&mut answer)).await.expect("no end").expect("the connection was reset");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_request_that_the_http_library_refuses_is_answered_with_problem_details() {
    let process = Process::start(app(), Readiness::new()).await;
    let many_headers = (0..200).map(|number| format!("x-{number}: y")).collect::<Vec<_>>().join("\r\n") + "\r\n";
    let cases = [
        ("400", "GET /things/1 HTTP/1.1\r\nHost: x\r\nbad header: y\r\n\r\n".to_owned()),
        ("400", "GET /things/<1> HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("400", "G\u{1}T / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("414", format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(70_000))),
        ("431", format!("GET / HTTP/1.1\r\nHost: x\r\n{many_headers}\r\n")),
        // Most of it is unread when the answer is sent.
        ("431", format!("GET / HTTP/1.1\r\nHost: x\r\nx: {}\r\n\r\n", "y".repeat(4_000_000))),
    ];
    for (status, request) in cases {
        let answer = exchange(&process, request.as_bytes()).await;
        let shown = &request[..request.len().min(80)];
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{shown:?}: {answer:?}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {head}");
        assert!(head.contains("application/problem+json") && head.contains("nosniff"), "{shown:?}: {head}");
        let problem: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{shown:?}: {error}: {body}"));
        assert_eq!(problem["status"].to_string(), status);
        assert!(problem["correlation_id"].is_string() && problem["error"] == problem["detail"], "{problem}");
    }
    process.stop().await;
}

#[tokio::test]
async fn an_endless_chunked_body_is_answered_with_413_and_not_with_a_reset() {
    let process = Process::start(app(), Readiness::new()).await;
    let head = "POST /things/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
    // 3 MB are read completely; of 24 MB the end is discarded while the connection closes.
    for (chunks, ending) in [(48, "0\r\n\r\n"), (384, "0\r\n\r\n"), (384, "")] {
        let request = format!("{head}{}{ending}", chunk.repeat(chunks));
        let mut stream = TcpStream::connect(process.base.trim_start_matches("http://")).await.unwrap();
        stream.write_all(request.as_bytes()).await.expect("the server reads everything");
        let mut answer = [0; 12];
        timeout(TEST_TIMEOUT, stream.read_exact(&mut answer)).await.expect("no answer").expect("a reset");
        assert_eq!(&answer, b"HTTP/1.1 413", "{chunks} chunks, ending {ending:?}");
    }
    process.stop().await;
}

#[tokio::test]
async fn a_client_that_expects_continue_is_refused_before_it_sends_too_much() {
    let process = Process::start(app(), Readiness::new()).await;
    let mut stream = TcpStream::connect(process.base.trim_start_matches("http://")).await.unwrap();
    let head = "POST /things/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(TEST_TIMEOUT, stream.read_exact(&mut answer)).await.expect("no answer").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    process.stop().await;
}

#[tokio::test]
async fn health_shows_the_instance_and_the_status_of_its_tasks() {
    let process = Process::start(app(), Readiness::new()).await;
    process.background.spawn("fragile", async { anyhow::Result::<()>::Err(anyhow::anyhow!("it broke")) });
    eventually_within(TEST_TIMEOUT, "the task has failed", async || {
        process.get("/health", StatusCode::OK).await["tasks"]["fragile"]["state"] == "failed"
    })
    .await;
    let health = process.get("/health", StatusCode::OK).await;
    assert_eq!((&health["status"], &health["instance"]), (&"ok".into(), &"users-1".into()));
    assert!(health["version"].is_string());
    process.stop().await;
}

#[tokio::test]
async fn an_instance_with_a_failing_check_is_healthy_but_not_ready() {
    let broken =
        Readiness::new().check("fine", async || Ok(())).check("database", async || anyhow::bail!("no connection"));
    let process = Process::start(app(), broken).await;
    process.get("/health", StatusCode::OK).await;
    let answer = process.get("/ready", StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!((&answer["failing"], &answer["error"]), (&"database".into(), &"no connection".into()));
    // It stops also while it waits to become ready.
    process.stop().await;
}

#[tokio::test]
async fn requests_are_counted_by_route_without_the_probes() {
    let process = Process::start(app(), Readiness::new()).await;
    for id in 0..3 {
        process.call(Method::GET, &format!("/things/{id}"), StatusCode::OK).await;
    }
    process.get("/health", StatusCode::OK).await;
    let metrics = process.call(Method::GET, "/metrics", StatusCode::OK).await.text().await.unwrap();
    let counter = metrics
        .lines()
        .find(|line| {
            line.starts_with("http_requests_total")
                && line.contains("method=\"GET\"")
                && line.contains("\"/things/{id}\"")
                && line.contains("200")
        })
        .unwrap_or_else(|| panic!("no counter in:\n{metrics}"));
    // Other tests of this process may have increased it.
    assert!(counter.rsplit(' ').next().unwrap().parse::<u64>().unwrap() >= 3, "{counter}");
    assert!(metrics.contains("http_request_duration_seconds_bucket"));
    assert!(!metrics.contains("/things/1") && !metrics.contains("/health"), "{metrics}");
    process.stop().await;
}

#[tokio::test]
async fn a_request_in_flight_is_finished_before_the_process_ends() {
    let (arrived, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (arrive, wait) = (Arc::clone(&arrived), Arc::clone(&finish));
    let slow = get(move || async move {
        arrive.notify_one();
        wait.notified().await;
        "finished"
    });
    let process = Process::start(Router::new().route("/slow", slow), Readiness::new()).await;
    let request = process.http.get(format!("{}/slow", process.base)).send();
    let answer = tokio::spawn(async { request.await.unwrap().text().await.unwrap() });
    arrived.notified().await;

    process.shutdown.cancel();
    process.background.stopping().cancelled().await;
    assert!(!process.serving.is_finished() && !process.background.drained().is_cancelled());
    let refused = async || process.http.get(format!("{}/health", process.base)).send().await.is_err();
    eventually_within(TEST_TIMEOUT, "new connections are refused", refused).await;

    finish.notify_one();
    assert_eq!(answer.await.unwrap(), "finished");
    process.stop().await;
}

#[tokio::test]
async fn the_process_waits_for_a_shutdown_guard() {
    let process = Process::start(app(), Readiness::new()).await;
    let (guard, stopping) = (process.background.shutdown_guard(), process.background.stopping());
    let (drained, closed) = (process.background.drained(), Arc::new(Notify::new()));
    let close = Arc::clone(&closed);
    tokio::spawn(async move {
        stopping.cancelled().await;
        drained.cancelled().await;
        close.notify_one();
        drop(guard);
    });
    process.stop().await;
    timeout(TEST_TIMEOUT, closed.notified()).await.expect("the process ended before the connection could close");
}

#[tokio::test]
async fn a_process_whose_build_fails_ends_with_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let identity = Identity::new(ServiceDefinition::of(Service::named("users")), "users-1");
    let build = async |_: Background| anyhow::bail!("no database");
    let outcome = serve(listener, CancellationToken::new(), identity, build).await;
    assert_eq!(outcome.unwrap_err().to_string(), "no database");
}
