//! The connections that HAProxy keeps to instances.

use std::collections::BTreeSet;

use flack_common::registry::Deregistration;
use flack_testing::eventually;

use crate::support::{CLIENTS, Instance, Load, Requests, Stack};

/// A POST to `/api/users` itself would count as a request with a password, which has a low limit.
const PATH: &str = "/api/users/7";
const CRASHES: usize = 3;

/// Starts users-1, users-2 and users-3.
async fn start_three() -> (Stack, [Instance; 3]) {
    let (stack, first) = Stack::start_with_users().await;
    let second = start_instance(&stack, 2).await;
    let third = start_instance(&stack, 3).await;
    (stack, [first, second, third])
}

async fn start_instance(stack: &Stack, number: usize) -> Instance {
    let name = format!("users-{number}");
    let instance = Instance::start(stack, "users", &name).await;
    stack.wait_for_instance(PATH, &name).await;
    instance
}

/// Starts one load of each kind: GET, POST with a key, and POST without one.
fn start_loads(stack: &Stack) -> [Load; 3] {
    [Requests::Get, Requests::PostWithIdempotencyKey, Requests::Post].map(|kind| Load::start_with(stack, PATH, kind))
}

async fn more(loads: &[Load; 3]) {
    for load in loads {
        load.more(200).await;
    }
}

/// Returns how many requests a server got on new connections, and on kept ones.
async fn connections(stack: &Stack, server: &str) -> [usize; 2] {
    let stat = stack.admin.send("show stat -1 4 -1").await.expect("HAProxy answers");
    let mut rows = stat.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = rows.next().expect("the names of the columns");
    let row = rows.find(|row| row[0] == "users" && row[1] == server).expect("the server");
    ["connect", "reuse"].map(|column| {
        let position = names.iter().position(|name| *name == column).expect("the column");
        row[position].parse().expect("a number")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_share_connections_to_an_instance() {
    let (stack, _users) = Stack::start_with_users().await;
    let load = Load::start(&stack, PATH);
    load.more(1_000).await;
    load.end_without_failure().await;
    let [new, kept] = connections(&stack, "users-1").await;
    assert!(kept > new * 10, "{new} requests on new connections, {kept} on kept ones");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_fails_no_read_and_no_post_with_a_key_and_no_other_post_is_sent_twice() {
    let (stack, [first, second, mut crashing]) = start_three().await;
    let mut posts = vec![first.posts.clone(), second.posts.clone(), crashing.posts.clone()];
    let loads = start_loads(&stack);
    for number in 0..CRASHES {
        more(&loads).await;
        let [_, kept] = connections(&stack, &crashing.name).await;
        assert!(kept > 0, "{} has no kept connections", crashing.name);
        crashing.crash();
        more(&loads).await;
        crashing = start_instance(&stack, 4 + number).await;
        posts.push(crashing.posts.clone());
    }
    let [reads, posts_with_key, other_posts] = loads;
    reads.end_without_failure().await;
    posts_with_key.end_without_failure().await;
    let (requests, failures) = other_posts.end().await;
    // Those that the instance has received, or may have received, without an answer.
    assert!(failures.len() <= CLIENTS * CRASHES, "{} of {requests} requests failed: {failures:?}", failures.len());

    let mut received = BTreeSet::new();
    for instance in posts {
        for id in instance.lock().expect("no request panicked").iter().filter(|id| id.starts_with("Post-")) {
            assert!(received.insert(id.clone()), "{id} was sent twice");
        }
    }
    assert!(received.len() + failures.len() >= requests, "{requests} requests, {} received", received.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_instance_with_kept_connections_loses_no_request() {
    let (stack, [_first, _second, stopping]) = start_three().await;
    let loads = start_loads(&stack);
    more(&loads).await;
    let [_, kept] = connections(&stack, "users-3").await;
    assert!(kept > 0, "users-3 has no kept connections");
    assert_eq!(stopping.stop().await, Deregistration::Confirmed);
    more(&loads).await;
    for load in loads {
        load.end_without_failure().await;
    }
    eventually("the server is removed", async || !stack.has_server("users-3").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_on_connections_to_the_last_instance_get_503_when_it_crashes() {
    let (stack, last) = Stack::start_with_users().await;
    let loads = [Requests::Get, Requests::PostWithIdempotencyKey].map(|kind| Load::start_with(&stack, PATH, kind));
    for load in &loads {
        load.more(200).await;
    }
    last.crash();
    for load in loads {
        load.more(200).await;
        let (_, failures) = load.end().await;
        assert!(!failures.is_empty());
        assert!(failures.iter().all(|failure| failure.starts_with("503")), "{failures:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_a_crashed_instance_has_received_is_repeated_only_with_an_idempotency_key() {
    let (stack, instances) = start_three().await;
    let mut instances = Vec::from(instances);
    for has_key in [false, true] {
        let load = Load::start(&stack, PATH);
        load.more(200).await;
        load.end_without_failure().await;
        let id = format!("key-{has_key}");
        let mut request = stack.http.post(format!("{}{PATH}/slow", stack.public)).header("X-Correlation-ID", &id);
        if has_key {
            request = request.header("Idempotency-Key", &id);
        }
        let answer = tokio::spawn(request.send());
        let has_received = |instance: &Instance| instance.posts.lock().expect("no request panicked").contains(&id);
        eventually("an instance receives it", async || instances.iter().any(has_received)).await;
        let receiver = instances.iter().position(has_received).expect("just now");
        instances.remove(receiver).crash();

        let answer = answer.await.expect("no panic");
        assert_eq!(answer.is_ok_and(|answer| answer.status() == 200), has_key);
        assert_eq!(instances.iter().filter(|instance| has_received(instance)).count(), usize::from(has_key));
    }
}
