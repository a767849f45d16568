use reqwest::{Response, header::RETRY_AFTER};
use serde_json::Value;

use crate::support::{Instance, Stack, answered_by, wait_for};

const PATH: &str = "/api/users";

async fn problem(answer: Response) -> Value {
    let kind = answer.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!(kind, "application/problem+json");
    let status = answer.status().as_u16();
    let problem: Value = serde_json::from_str(&answer.text().await.expect("a body")).expect("it is JSON");
    assert_eq!(problem["status"], status);
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_instances_answers_503_with_retry_after_and_never_the_monolith() {
    let stack = Stack::start().await;
    stack.route("users", 100).await;
    let _monolith = Instance::start(&stack, "monolith", "monolith-1").await;
    stack.wait_for_instance("/api/messages", "monolith-1").await;
    wait_for("the route to be taken", async || {
        stack.get(PATH).await.is_ok_and(|answer| answer.status() == 503)
    })
    .await;
    let answer = stack.get(&format!("{PATH}/7")).await.expect("an answer");
    assert_eq!(answer.headers()[RETRY_AFTER], "1");
    assert!(answer.headers().contains_key("x-correlation-id"));
    assert!(
        problem(answer).await["detail"].as_str().is_some_and(|text| text.starts_with("users is unavailable"))
    );
    // Not below /api/users, however alike it looks.
    assert_eq!(answered_by(&stack.get("/api/usersfoo").await.expect("an answer")), "monolith-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_instances_all_crashed_answers_503_until_one_is_back() {
    let stack = Stack::start().await;
    stack.route("users", 100).await;
    let instance = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance(PATH, "users-1").await;
    instance.crash();
    let answer = stack.get(PATH).await.expect("an answer");
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()[RETRY_AFTER], "1");
    problem(answer).await;
    let _back = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance(PATH, "users-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_door_hides_what_is_internal() {
    let stack = Stack::start().await;
    let _monolith = Instance::start(&stack, "monolith", "monolith-1").await;
    let _users = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance("/", "monolith-1").await;
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
    wait_for("the internal door to reach what is internal", async || {
        let answer = stack.http.get(format!("{}/internal/users/x", stack.internal)).send().await;
        answer.is_ok_and(|answer| answered_by(&answer) == "users-1")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correlation_id_is_kept_when_harmless_and_made_otherwise() {
    let stack = Stack::start().await;
    let _monolith = Instance::start(&stack, "monolith", "monolith-1").await;
    stack.wait_for_instance("/", "monolith-1").await;
    let ask = async |id: &str| {
        let request = stack.http.get(format!("{}/x?secret=1", stack.public));
        let request = request.header("X-Correlation-ID", id).header("X-Forwarded-For", "6.6.6.6");
        let answer = request.send().await.expect("an answer");
        let id = answer.headers()["x-correlation-id"].to_str().expect("text").to_owned();
        (id, answer.text().await.expect("a body"))
    };
    assert_eq!(ask("abc-1").await, ("abc-1".to_owned(), "abc-1 127.0.0.1".to_owned()));
    let (made, seen) = ask("a b\"}").await;
    assert_eq!(made.len(), 36, "{made} is no uuid");
    assert_eq!(seen, format!("{made} 127.0.0.1"));

    wait_for("both to be in the log", async || stack.haproxy_log().contains(&made)).await;
    let log = stack.haproxy_log();
    let lines: Vec<Value> = log
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let line = lines.iter().find(|line| line["correlation_id"] == "abc-1").expect("it was logged");
    assert_eq!(line["path"], "/x");
    assert_eq!(line["server"], "monolith-1");
    assert!(
        line["ts"].as_str().is_some_and(|time| chrono::DateTime::parse_from_rfc3339(time).is_ok()),
        "{line}"
    );
    assert!(!log.contains("secret"), "the query has no place in a log");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tries_too_many_credentials_has_to_wait() {
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
    let refused = refused.expect("the sixth is too many");
    assert_eq!(refused.headers()[RETRY_AFTER], "10");
    problem(refused).await;
    assert_eq!(stack.get(PATH).await.expect("an answer").status(), 200, "reading is not limited by this");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stats_door_shows_page_and_figures() {
    let stack = Stack::start().await;
    for (path, word) in [("/stats", "Statistics Report"), ("/metrics", "haproxy_process_"), ("/health", "ok")]
    {
        let answer = stack.http.get(format!("{}{path}", stack.stats)).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.text().await.expect("a body").contains(word), "{path}");
    }
}
