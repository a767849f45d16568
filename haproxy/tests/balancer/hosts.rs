use reqwest::header::{ACCEPT, HOST};

use crate::support::{Instance, LOCAL, Raw, Stack, answered_by, connect, send};

const UPGRADE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// Sends the lines on a new connection.
async fn request(listener: &str, lines: &[&str]) -> Raw {
    let mut connection = connect(LOCAL, listener).await.expect("a connection");
    send(&mut connection, lines).await
}

async fn status_for(listener: &str, host: &str) -> u16 {
    request(listener, &["GET /x HTTP/1.1", &format!("Host: {host}")]).await.status
}

fn machine() -> String {
    nix::unistd::gethostname().expect("a name").into_string().expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_host_that_is_not_ours_gets_421() {
    let (stack, _monolith) = Stack::start_with_monolith().await;
    for host in [
        "evil.invalid",
        "evil.invalid:8080",
        "localhost.evil.invalid",
        "evil.invalid, localhost",
        "localhost, evil.invalid",
        "localhost@evil.invalid",
        "evil@localhost",
        "127.0.0.1.evil.invalid",
        "127.evil.0.1",
        "xlocalhost",
        "localhost:80:80",
        "192.0.2.7",
        "[::2]",
        "",
    ] {
        assert_eq!(status_for(&stack.public, host).await, 421, "{host}");
    }
    for lines in [
        ["GET /x HTTP/1.1", "X: no host"].as_slice(),
        &["GET /x HTTP/1.0", "X: no host"],
        &["GET http://evil.invalid/ HTTP/1.1", "Host: evil.invalid"],
        &["GET http://evil.invalid/ HTTP/1.1", "X: no host"],
        &["GET http://localhost@evil.invalid/ HTTP/1.1", "Host: evil.invalid"],
        &["OPTIONS * HTTP/1.1", "Host: evil.invalid"],
        &["CONNECT evil.invalid:80 HTTP/1.1", "Host: evil.invalid:80"],
    ] {
        assert_eq!(request(&stack.public, lines).await.status, 421, "{lines:?}");
    }
    // HAProxy's parser refuses these: the host would be ambiguous.
    for lines in [
        ["GET http://evil.invalid/ HTTP/1.1", "Host: localhost"].as_slice(),
        &["GET http://localhost/ HTTP/1.1", "Host: evil.invalid"],
        &["GET /x HTTP/1.1", "Host: localhost", "Host: evil.invalid"],
    ] {
        assert_eq!(request(&stack.public, lines).await.status, 400, "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_cannot_be_opened_with_a_host_that_is_not_ours() {
    let (stack, _monolith) = Stack::start_with_monolith().await;
    let upgrade = async |host: &str, origin: &str| {
        let mut lines = vec!["GET /ws HTTP/1.1", host, origin];
        lines.extend(UPGRADE);
        request(&stack.public, &lines).await
    };
    assert_eq!(upgrade("Host: evil.invalid", "Origin: http://evil.invalid").await.status, 421);
    // The instance answers every path with 200.
    assert_eq!(upgrade("Host: localhost", "Origin: http://localhost").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_421_is_a_problem_and_a_page_for_browsers() {
    let (stack, _monolith) = Stack::start_with_monolith().await;
    let get = |accept: &str| {
        let request = stack.http.get(format!("{}/", stack.public)).header(HOST, "evil.invalid");
        let request = request.header(ACCEPT, accept);
        async { request.send().await.expect("an answer") }
    };
    let problem = get("*/*").await;
    assert_eq!(problem.status(), 421);
    assert_eq!(problem.headers()["content-type"], "application/problem+json");
    let body: serde_json::Value = serde_json::from_str(&problem.text().await.expect("a body")).expect("JSON");
    assert_eq!(body["type"], "/api/docs/problems#misdirected-request");
    let page = get("text/html").await;
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    assert!(page.text().await.expect("a body").contains("<h1>Misdirected request</h1>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_names_and_addresses_and_the_name_of_the_machine_are_ours_with_any_port() {
    let (stack, _monolith) = Stack::start_with_monolith().await;
    let name = machine();
    for host in [
        "localhost",
        "LocalHost:1",
        "localhost.",
        "localhost.:8080",
        "chat.flack.localhost:8080",
        "127.0.0.1",
        "127.255.3.4:8080",
        "[::1]",
        "[::1]:8080",
        &name,
        &format!("{}:9", name.to_uppercase()),
    ] {
        assert_eq!(status_for(&stack.public, host).await, 200, "{host}");
    }
    let lines = ["GET http://localhost:8080/x HTTP/1.1", "Host: localhost:8080"];
    assert_eq!(request(&stack.public, &lines).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn flack_public_hosts_lists_more_names() {
    let hosts = "Chat.Example.org,*.example.net, 192.0.2.7,[2001:db8::7]";
    let stack = Stack::start_with(&[("FLACK_PUBLIC_HOSTS", hosts)]).await;
    let _monolith = Instance::start(&stack, "monolith", "monolith-1").await;
    stack.wait_for_instance("/", "monolith-1").await;
    for host in ["chat.example.org:80", "a.b.example.net", "192.0.2.7", "[2001:db8::7]:80", "localhost", "127.0.0.1"] {
        assert_eq!(status_for(&stack.public, host).await, 200, "{host}");
    }
    for host in
        ["example.org", "chatxexample.org", "example.net", "evilexample.net", "192.0.2.70", "x.chat.example.org"]
    {
        assert_eq!(status_for(&stack.public, host).await, 421, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_listeners_refuse_names_of_strangers_and_accept_addresses_and_short_names() {
    let (stack, monolith) = Stack::start_with_monolith().await;
    for (listener, path) in [(&stack.internal, "/x"), (&stack.stats, "/metrics"), (&stack.stats, "/stats")] {
        let status = async |host: &str| {
            let url = format!("{listener}{path}");
            stack.http.get(url).header(HOST, host).send().await.expect("an answer").status()
        };
        for host in ["evil.invalid", "evil.invalid:8081", "localhost.evil.invalid"] {
            assert_eq!(status(host).await, 421, "{host} {path}");
        }
        for host in ["haproxy:8081", "127.0.0.1", "10.1.2.3:8081", "[fd00::1]:8081", "localhost"] {
            assert_eq!(status(host).await, 200, "{host} {path}");
        }
    }
    let answer = stack.get_url(format!("{}/internal/monolith/x", stack.internal)).await.expect("an answer");
    assert_eq!(answered_by(&answer), monolith.name);
}
