use flack_testing::eventually;
use reqwest::{
    Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, LOCATION, RETRY_AFTER, VARY},
};
use serde_json::Value;

use crate::support::{Instance, Stack, answered_by};

const PATH: &str = "/api/users";
/// What Chromium sends when it opens a page.
const BROWSER_ACCEPT: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";

async fn problem(answer: Response) -> Value {
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
    let status = answer.status().as_u16();
    let problem: Value = serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON");
    assert_eq!(problem["status"], status);
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_an_html_page_for_errors_of_the_balancer() {
    let (stack, _monolith) = Stack::start_with_monolith().await;
    stack.route("users", 100).await;
    stack.wait_for_status(PATH, 503).await;
    let get = async |accept: &str, path: &str| {
        let request = stack.http.get(format!("{}{path}", stack.public)).header(ACCEPT, accept);
        request.send().await.expect("an answer")
    };
    for (path, status, text) in [
        ("/metrics", StatusCode::NOT_FOUND, "<h1>Not found</h1><p>there is nothing at this path.</p>"),
        (PATH, StatusCode::SERVICE_UNAVAILABLE, "<h1>Service unavailable</h1><p>users is unavailable"),
    ] {
        let page = get(BROWSER_ACCEPT, path).await;
        assert_eq!(page.status(), status);
        assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(page.headers()[VARY], "Accept");
        let body = page.text().await.expect("a body");
        assert!(body.starts_with("<!doctype html>") && body.contains(text), "{body}");
        for accept in ["*/*", "application/json", "application/json, text/html"] {
            let answer = get(accept, path).await;
            assert_eq!(answer.status(), status);
            problem(answer).await;
        }
    }
    let page = get(BROWSER_ACCEPT, "/").await;
    assert_eq!(answered_by(&page), "monolith-1");
    assert_eq!(page.headers()[CONTENT_TYPE], "text/plain; charset=utf-8", "a response of a service");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_instances_answers_503_with_retry_after_and_never_the_monolith() {
    let (stack, _monolith) = Stack::start_with_monolith().await;
    stack.route("users", 100).await;
    stack.wait_for_status(PATH, 503).await;
    let answer = stack.get(&format!("{PATH}/7")).await.expect("an answer");
    assert_eq!(answer.headers()[RETRY_AFTER], "1");
    assert!(answer.headers().contains_key("x-correlation-id"));
    let problem = problem(answer).await;
    assert!(problem["detail"].as_str().is_some_and(|text| text.starts_with("users is unavailable")));
    // Not below /api/users.
    assert_eq!(answered_by(&stack.get("/api/usersfoo").await.expect("an answer")), "monolith-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_instances_have_all_crashed_answers_503_until_one_is_started() {
    let (stack, instance) = Stack::start_with_users().await;
    instance.crash();
    let answer = stack.get(PATH).await.expect("an answer");
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()[RETRY_AFTER], "1");
    problem(answer).await;
    let _new = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance(PATH, "users-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_listener_hides_internal_paths() {
    let (stack, _monolith) = Stack::start_with_monolith().await;
    let _users = Instance::start(&stack, "users", "users-1").await;
    for path in [
        "/internal",
        "/internal/users/x",
        "/%69nternal/users/x",
        "//internal/x",
        "/INTERNAL/x",
        "/metrics",
        "/health",
        "/ready",
    ] {
        let answer = stack.get(path).await.expect("an answer");
        assert_eq!(answer.status(), 404, "{path}");
        problem(answer).await;
    }
    assert_eq!(stack.get("/healthy").await.expect("an answer").status(), 200);
    stack.wait_for_instance_at(&stack.internal, "/internal/users/x", "users-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correlation_id_with_plain_characters_is_kept_and_another_is_replaced() {
    let (stack, _monolith) = Stack::start_with_monolith().await;
    let get = async |id: &str| {
        let request = stack.http.get(format!("{}/x?secret=1", stack.public));
        let request = request.header("X-Correlation-ID", id).header("X-Forwarded-For", "6.6.6.6");
        let answer = request.send().await.expect("an answer");
        let id = answer.headers()["x-correlation-id"].to_str().expect("text").to_owned();
        (id, answer.text().await.expect("a body"))
    };
    assert_eq!(get("abc-1").await, ("abc-1".to_owned(), "abc-1 127.0.0.1".to_owned()));
    let (generated, body) = get("a b\"}").await;
    assert_eq!(generated.len(), 36, "{generated} is not a UUID");
    assert_eq!(body, format!("{generated} 127.0.0.1"));

    eventually("both are in the log", async || stack.haproxy_log().contains(&generated)).await;
    let log = stack.haproxy_log();
    let lines: Vec<Value> =
        log.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).expect(line)).collect();
    let line = lines.iter().find(|line| line["correlation_id"] == "abc-1").expect("a log line");
    assert_eq!(line["path"], "/x");
    assert_eq!(line["server"], "monolith-1");
    assert!(line["ts"].as_str().is_some_and(|time| chrono::DateTime::parse_from_rfc3339(time).is_ok()), "{line}");
    assert!(!log.contains("secret"), "the query is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_listener_replaces_the_address_of_the_client_and_the_internal_one_keeps_a_valid_one() {
    let (stack, _monolith) = Stack::start_with_monolith().await;
    let forwarded = async |listener: &str, sent: &[&str]| {
        let mut request = stack.http.get(format!("{listener}/x")).header("X-Correlation-ID", "id");
        for value in sent {
            request = request.header("X-Forwarded-For", *value);
        }
        let answer = request.send().await.expect("an answer").text().await.expect("a body");
        answer.strip_prefix("id ").expect("the instance's answer").to_owned()
    };
    for valid in ["203.0.113.7", "2001:db8::7"] {
        assert_eq!(forwarded(&stack.internal, &[valid]).await, valid);
        assert_eq!(forwarded(&stack.public, &[valid]).await, "127.0.0.1");
    }
    let invalid: [&[&str]; 9] = [
        &[],
        &[""],
        &["unknown"],
        &["203.0.113.7, 203.0.113.8"],
        &["203.0.113.7", "203.0.113.8"],
        &["203.0.113.7:80"],
        &["203.0.113"],
        &["203.0.113.7/8"],
        &["[2001:db8::7]"],
    ];
    for sent in invalid {
        assert_eq!(forwarded(&stack.internal, sent).await, "127.0.0.1", "{sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_with_credentials_are_refused() {
    let stack = Stack::start_with(&[("LIMIT_CREDENTIALS_PER_10S", "5")]).await;
    let _monolith = Instance::start(&stack, "monolith", "monolith-1").await;
    stack.wait_for_instance("/", "monolith-1").await;
    let mut refused = None;
    for _ in 0..10 {
        let answer = stack.http.post(format!("{}/api/tokens", stack.public)).send().await.expect("an answer");
        if answer.status() == 429 {
            refused = Some(answer);
        }
    }
    let refused = refused.expect("the sixth is refused");
    assert_eq!(refused.headers()[RETRY_AFTER], "10");
    problem(refused).await;
    assert_eq!(stack.get(PATH).await.expect("an answer").status(), 200, "other requests have another limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stats_listener_serves_page_metrics_and_liveness() {
    let stack = Stack::start().await;
    for (path, word) in [("/stats", "Statistics Report"), ("/metrics", "haproxy_process_"), ("/health", "ok")] {
        let answer = stack.get_url(format!("{}{path}", stack.stats)).await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.text().await.expect("a body").contains(word), "{path}");
    }
    let redirect = stack.get_url(format!("{}/", stack.stats)).await.expect("an answer");
    assert_eq!(
        (redirect.status(), &redirect.headers()[LOCATION]),
        (StatusCode::FOUND, &"/stats".parse().expect("a header"))
    );
}
