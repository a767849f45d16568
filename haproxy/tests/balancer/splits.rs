use std::{collections::BTreeMap, time::Duration};

use flack_common::registry::keys;
use flack_haproxy::servers::UNAVAILABLE;
use flack_testing::eventually;
use reqwest::RequestBuilder;
use tokio::time::timeout;

use crate::support::{Instance, Load, Stack, answered_by, token};

const PATH: &str = "/api/users";
const USERS: usize = 1_000;

/// Starts users-1 of version 0.1.0 and users-2 of version 2.
async fn start() -> (Stack, Instance, Instance) {
    let (stack, old) = Stack::start_with_users().await;
    let new = Instance::start_version(&stack, "users", "users-2", "2").await;
    stack.wait_for_instance(PATH, "users-2").await;
    (stack, old, new)
}

/// Writes a split, and waits until it has moved users-2.
async fn split(stack: &Stack, split: &str) {
    stack.split(split).await;
    wait_for_servers(stack, &["users-1", "users-1.backup", "users-2"]).await;
}

/// Waits until HAProxy has exactly these servers, all of which get requests, and knows of one split.
async fn wait_for_servers(stack: &Stack, expected: &[&str]) {
    eventually(&format!("the servers are {expected:?}"), async || {
        let state = stack.admin.send("show servers state").await.unwrap_or_default();
        let rows = state.lines().filter(|line| line.contains(" users") && !line.contains(UNAVAILABLE));
        let fields: Vec<Vec<&str>> = rows.map(|line| line.split(' ').collect()).collect();
        let mut servers: Vec<&str> = fields.iter().map(|fields| fields[3]).collect();
        servers.sort_unstable();
        // A canary backend with backups only is about to get its canary.
        let has_canary = fields.iter().any(|fields| fields[1] == "users.canary" && !fields[3].ends_with(".backup"));
        let is_split = expected.iter().any(|server| server.ends_with(".backup"));
        servers == expected && has_canary == is_split && fields.iter().all(|fields| fields[6] == "0")
    })
    .await;
}

async fn wait_for_canary_map(stack: &Stack, expected: &str) {
    eventually(&format!("the map contains {expected}"), async || {
        stack.admin.send("show map canary.map").await.is_ok_and(|map| map.contains(expected))
    })
    .await;
}

async fn answering(request: RequestBuilder) -> String {
    answered_by(&request.send().await.expect("an answer")).to_owned()
}

async fn side(stack: &Stack, user: usize) -> String {
    answering(stack.http.get(format!("{}{PATH}", stack.public)).bearer_auth(token(user))).await
}

/// The structure that HAProxy runs with; it changes with each reload.
async fn structure(stack: &Stack) -> String {
    stack.admin.send("show env FLACK_STRUCTURE").await.expect("HAProxy answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_of_the_users_gets_the_canary_and_each_user_stays_on_one_side() {
    let (stack, _old, _new) = start().await;
    let before = structure(&stack).await;
    split(&stack, r#"{"version":"2","percentage":20}"#).await;

    let mut sides: BTreeMap<usize, String> = BTreeMap::new();
    for user in 0..USERS {
        sides.insert(user, side(&stack, user).await);
    }
    for user in (0..USERS).step_by(5) {
        assert_eq!(side(&stack, user).await, sides[&user], "user {user} changed sides");
    }
    let canaries = sides.values().filter(|side| *side == "users-2").count();
    assert!((160..=240).contains(&canaries), "{canaries} of {USERS} users instead of 20 %");
    assert_eq!(structure(&stack).await, before, "HAProxy has reloaded");

    // A larger percentage keeps the users of the smaller one.
    stack.split(r#"{"version":"2","percentage":50}"#).await;
    eventually("the percentage is changed", async || {
        stack.admin.send("show map canary_percent.map").await.is_ok_and(|map| map.contains("users 50"))
    })
    .await;
    for user in sides.iter().filter(|(_, side)| *side == "users-2").map(|(user, _)| *user).step_by(10) {
        assert_eq!(side(&stack, user).await, "users-2", "user {user} left the canary");
    }
    // Internal operations have no user, and stay with the other versions.
    for user in 0..20 {
        let request = stack.http.get(format!("{}/internal/users/passwords", stack.internal)).bearer_auth(token(user));
        assert_eq!(answering(request).await, "users-1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_headers_and_cookies_select_the_canary_without_a_reload() {
    let (stack, _old, _new) = start().await;
    let before = structure(&stack).await;
    let headers = [("x-canary", "1"), ("X-Canary", "2"), ("cookie", "canary=1"), ("cookie", "canary=0")];
    let get = || stack.http.get(format!("{}{PATH}", stack.public));

    for (text, key, expected) in [
        (r#"{"version":"2","header":{"name":"X-Canary","value":"1"}}"#, "users/header/x-canary/1", 0),
        (r#"{"version":"2","cookie":{"name":"canary","value":"1"}}"#, "users/cookie/canary/1", 2),
    ] {
        split(&stack, text).await;
        wait_for_canary_map(&stack, key).await;
        for (index, (name, value)) in headers.iter().enumerate() {
            let instance = if index == expected { "users-2" } else { "users-1" };
            assert_eq!(answering(get().header(*name, *value)).await, instance, "{text}: {name}: {value}");
        }
        assert_eq!(answering(get()).await, "users-1", "{text}");
    }
    split(&stack, r#"{"version":"2","users":["7","9"]}"#).await;
    wait_for_canary_map(&stack, "users/user/9").await;
    for (user, instance) in [(7, "users-2"), (8, "users-1"), (9, "users-2"), (79, "users-1")] {
        assert_eq!(side(&stack, user).await, instance, "user {user}");
    }
    assert_eq!(answering(get().header("x-canary", "1")).await, "users-1", "the header is not matched any more");
    assert_eq!(structure(&stack).await, before, "HAProxy has reloaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_header_is_matched_after_a_reload_without_a_failed_request() {
    let (stack, _old, _new) = start().await;
    let load = Load::start(&stack, PATH);
    load.more(100).await;
    stack.split(r#"{"version":"2","header":{"name":"X-Test","value":"a.b"}}"#).await;
    eventually("the header selects the canary", async || {
        let request = stack.http.get(format!("{}{PATH}", stack.public)).header("x-test", "a.b");
        answered_by(&request.send().await.expect("an answer")) == "users-2"
    })
    .await;
    load.more(200).await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_changing_and_removing_a_split_fails_no_request_and_keeps_the_acknowledgements() {
    let (stack, _old, new) = start().await;
    let acknowledgement = keys::balancer("users", "users-2");
    eventually("the balancer acknowledges", async || {
        stack.registry.get(&acknowledgement).await.is_ok_and(|value| value.is_some())
    })
    .await;
    let mut changes = stack.registry.mirror(&acknowledgement).await.expect("etcd answers");

    let load = Load::start(&stack, PATH);
    for percentage in [10, 100, 0] {
        split(&stack, &format!(r#"{{"version":"2","percentage":{percentage}}}"#)).await;
        load.more(200).await;
    }
    // The other instance is the canary now.
    stack.split(r#"{"version":"0.1.0","percentage":50}"#).await;
    wait_for_servers(&stack, &["users-1", "users-2", "users-2.backup"]).await;
    load.more(200).await;
    stack.registry.delete(&keys::split("users")).await.expect("etcd answers");
    wait_for_servers(&stack, &["users-1", "users-2"]).await;
    load.more(200).await;
    let change = timeout(Duration::ZERO, changes.changed()).await;
    assert!(change.is_err(), "the acknowledgement of users-2 was deleted or written again");

    split(&stack, r#"{"version":"2","percentage":50}"#).await;
    load.more(200).await;
    new.stop().await;
    wait_for_servers(&stack, &["users-1"]).await;
    load.more(200).await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_do_not_fail_when_the_only_canary_crashes() {
    let (stack, _old, new) = start().await;
    split(&stack, r#"{"version":"2","percentage":100}"#).await;

    let load = Load::start(&stack, PATH);
    load.more(200).await;
    new.crash();
    load.more(200).await;
    eventually("its lease ends and its server is removed", async || !stack.has_server("users-2").await).await;
    assert_eq!(side(&stack, 1).await, "users-1");
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_is_not_ready_gets_no_requests_until_it_is_ready_again() {
    let (stack, _old, new) = start().await;
    split(&stack, r#"{"version":"2","percentage":100}"#).await;
    assert_eq!(side(&stack, 1).await, "users-2");
    new.set_ready(false);
    stack.wait_for_instance(PATH, "users-1").await;
    new.set_ready(true);
    stack.wait_for_instance(PATH, "users-2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_other_versions_have_left_the_canary_gets_all_requests() {
    let (stack, old, _new) = start().await;
    split(&stack, r#"{"version":"2","percentage":5}"#).await;
    let load = Load::start(&stack, PATH);
    load.more(200).await;
    old.stop().await;
    wait_for_servers(&stack, &["users-2"]).await;
    load.more(200).await;
    // The split has an effect again as soon as another version has an instance.
    let _third = Instance::start(&stack, "users", "users-3").await;
    wait_for_servers(&stack, &["users-2", "users-3", "users-3.backup"]).await;
    load.more(200).await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_haproxy_has_the_split_without_agent_and_etcd() {
    let (mut stack, _old, _new) = start().await;
    split(&stack, r#"{"version":"2","users":["7"]}"#).await;
    let configuration = stack.dir.path().join("haproxy.cfg");
    eventually("the files are written", async || {
        std::fs::read_to_string(&configuration).is_ok_and(|text| text.contains("server users-1.backup "))
    })
    .await;
    stack.kill_agent().await;
    stack.etcd.stop();
    stack.kill_haproxy().await;
    stack.start_haproxy().await;
    assert_eq!([side(&stack, 7).await, side(&stack, 8).await], ["users-2", "users-1"]);

    // The agent starts with its last known state.
    stack.start_agent();
    stack.admin.send("clear map canary.map").await.expect("HAProxy answers");
    wait_for_canary_map(&stack, "users/user/7").await;
    assert_eq!([side(&stack, 7).await, side(&stack, 8).await], ["users-2", "users-1"]);
}
