use std::net::Ipv4Addr;

use flack_testing::eventually;

use crate::support::{Instance, LOCAL, OTHER, Raw, Stack, connect, send};

const HOST: &str = "Host: localhost";
const EMPTY: &str = "Content-Length: 0";
const BASIC: &str = "Authorization: Basic dTpw";

async fn start(limits: &[(&str, &str)]) -> (Stack, Instance) {
    let stack = Stack::start_with(limits).await;
    let monolith = Instance::start(&stack, "monolith", "monolith-1").await;
    stack.wait_for_instance("/", "monolith-1").await;
    (stack, monolith)
}

/// Sends a request on a new connection from a source address.
async fn from(source: Ipv4Addr, stack: &Stack, lines: &[&str]) -> Raw {
    match connect(source, &stack.public).await {
        Ok(mut connection) => send(&mut connection, lines).await,
        Err(_) => Raw { status: 0, text: String::new() },
    }
}

/// Returns how many of `count` requests had this status.
async fn count(count: usize, status: u16, source: Ipv4Addr, stack: &Stack, lines: &[&str]) -> usize {
    let mut found = 0;
    for _ in 0..count {
        found += usize::from(from(source, stack, lines).await.status == status);
    }
    found
}

fn assert_quota(answer: &Raw, policy: &str, remaining: &str) {
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(answer.header("Retry-After"), Some("10"));
    assert_eq!(answer.header("RateLimit-Policy"), Some(policy));
    assert_eq!(answer.header("RateLimit"), Some(remaining));
    assert_eq!(answer.header("Content-Type"), Some("application/problem+json"));
    assert!(answer.body().contains("/api/docs/problems#too-many-requests"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_writes_too_much_is_refused_and_its_reads_and_other_addresses_are_not() {
    let (stack, _monolith) = start(&[("LIMIT_WRITES_PER_10S", "20")]).await;
    let methods = ["POST", "PUT", "PATCH", "DELETE"];
    let mut accepted = 0;
    for request in 0..40 {
        let line = format!("{} /api/messages/7 HTTP/1.1", methods[request % methods.len()]);
        accepted += usize::from(from(LOCAL, &stack, &[&line, HOST, EMPTY]).await.status == 200);
    }
    // The window slides on a slow machine.
    assert!((20..=24).contains(&accepted), "{accepted}");
    let post = ["POST /api/messages HTTP/1.1", HOST, EMPTY];
    assert_quota(&from(LOCAL, &stack, &post).await, r#""writes";q=20;w=10"#, r#""writes";r=0;t=10"#);
    assert_eq!(from(LOCAL, &stack, &["GET /api/messages HTTP/1.1", HOST]).await.status, 200);
    assert_eq!(from(OTHER, &stack, &post).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_counted_for_each_address_when_the_service_has_checked_them() {
    let (stack, _monolith) = start(&[("LIMIT_CREDENTIALS_PER_10S", "10"), ("LIMIT_WRITES_PER_10S", "10")]).await;
    let sign_in = |answer| ["POST /api/tokens HTTP/1.1", HOST, EMPTY, BASIC, answer];
    // The service has refused these without a hash.
    assert_eq!(count(20, 429, LOCAL, &stack, &sign_in("X-Answer: 429")).await, 20);
    let wrong = sign_in("X-Answer: 401");
    let checked = count(20, 401, LOCAL, &stack, &wrong).await;
    assert!((10..=12).contains(&checked), "{checked}");
    assert_quota(&from(LOCAL, &stack, &wrong).await, r#""credentials";q=10;w=10"#, r#""credentials";r=0;t=10"#);
    for refused in [
        ["POST /api/users HTTP/1.1", HOST, EMPTY, "X: y"],
        ["POST /API/v2/tokens/ HTTP/1.1", HOST, EMPTY, "X: y"],
        ["PUT /api/users/7 HTTP/1.1", HOST, EMPTY, "X: y"],
        ["GET /api/users/me HTTP/1.1", HOST, EMPTY, BASIC],
    ] {
        assert_eq!(from(LOCAL, &stack, &refused).await.status, 429, "{refused:?}");
    }
    // Requests without a password, and those of others.
    let bearer = ["GET /api/users/me HTTP/1.1", HOST, "Authorization: Bearer x"];
    assert_eq!(from(LOCAL, &stack, &bearer).await.status, 200);
    assert_eq!(from(LOCAL, &stack, &["POST /api/messages HTTP/1.1", HOST, EMPTY]).await.status, 200);
    assert_eq!(from(OTHER, &stack, &wrong).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_too_many_requests_is_refused_and_others_are_not() {
    let (stack, _monolith) = start(&[("LIMIT_REQUESTS_PER_10S", "50")]).await;
    let get = ["GET /x HTTP/1.1", HOST];
    assert!(count(60, 200, OTHER, &stack, &get).await <= 50);
    assert_quota(&from(OTHER, &stack, &get).await, r#""requests";q=50;w=10"#, r#""requests";r=0;t=10"#);
    assert_eq!(from(Ipv4Addr::new(127, 0, 0, 3), &stack, &get).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_take_all_connections() {
    let (stack, _monolith) = start(&[("LIMIT_CONNECTIONS_PER_ADDRESS", "20")]).await;
    let get = ["GET /x HTTP/1.1", HOST];
    let mut connections = Vec::new();
    for _ in 0..100 {
        connections.extend(connect(OTHER, &stack.public).await);
    }
    eventually("the connections beyond the limit are closed", async || {
        (20..=25).contains(&stack.connections(OTHER).await)
    })
    .await;
    let mut accepted = 0;
    let mut refused = Vec::new();
    for connection in &mut connections {
        let answer = send(connection, &get).await;
        match answer.status {
            200 => accepted += 1,
            429 => refused.push(answer),
            status => assert_eq!(status, 0, "closed without an answer"),
        }
    }
    // HAProxy's threads count the connections that arrive together.
    assert!((15..=20).contains(&accepted), "{accepted} of 20 connections are accepted");
    assert!(accepted + refused.len() <= 25, "{accepted} are accepted and {} have an answer", refused.len());
    for answer in refused {
        assert_quota(&answer, r#""connections";q=20"#, r#""connections";r=0;t=10"#);
        assert_eq!(answer.header("Connection"), Some("close"));
    }
    eventually("the refused connections are closed", async || stack.connections(OTHER).await == accepted).await;
    assert_eq!(from(LOCAL, &stack, &get).await.status, 200, "another address");
    drop(connections);
    eventually("the address can connect again", async || from(OTHER, &stack, &get).await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_limit_is_used_after_a_restart_of_the_agent() {
    let (mut stack, _monolith) = start(&[]).await;
    let post = ["POST /api/messages HTTP/1.1", HOST, EMPTY];
    assert_eq!(from(LOCAL, &stack, &post).await.status, 200);
    stack.kill_agent().await;
    stack.set("LIMIT_WRITES_PER_10S", "0");
    stack.start_agent();
    eventually("the new limit is used", async || from(LOCAL, &stack, &post).await.status == 429).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_however_large_it_claims_to_be() {
    let (stack, _monolith) = start(&[]).await;
    for length in [
        "16777217",
        "2147483648",
        "4294967295",
        "4294967296",
        "4294967297",
        "9223372036854775807",
        "18446744073709551616",
        "18446744073709551617",
    ] {
        let length = format!("Content-Length: {length}");
        let answer = from(LOCAL, &stack, &["POST /api/messages HTTP/1.1", HOST, &length]).await;
        assert_eq!(answer.status, 413, "{length}");
        assert_eq!(answer.header("Content-Type"), Some("application/problem+json"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_headers_get_431_as_a_problem() {
    let (stack, _monolith) = start(&[]).await;
    for (headers, status) in [(80, 200), (97, 431), (200, 431), (900, 431)] {
        let fields: Vec<String> = (0..headers).map(|number| format!("X{number}: y")).collect();
        let mut lines = vec!["GET /x HTTP/1.1", HOST];
        lines.extend(fields.iter().map(String::as_str));
        let answer = from(LOCAL, &stack, &lines).await;
        assert_eq!(answer.status, status, "{headers} headers");
        if status == 431 {
            assert_eq!(answer.header("Content-Type"), Some("application/problem+json"));
            assert!(answer.body().contains("#headers-too-large"), "{answer:?}");
        }
    }
}
