use std::time::{Duration, Instant};

use flack_common::registry::{Deregistration, ServiceDefinition, keys};
use flack_testing::eventually;

use crate::support::{Instance, Load, Stack, answered_by};

const PATH: &str = "/api/users";
/// The limit for the time from the registration of an instance to its first answer through the balancer.
const JOIN_TIME_MAX: Duration = Duration::from_millis(100);
const JOINS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_instance_answers_within_100_ms() {
    let (stack, _first) = Stack::start_with_users().await;

    let mut times = Vec::new();
    for number in 0..JOINS {
        let instance = Instance::listen("users", &format!("users-join-{number}")).await;
        let started = Instant::now();
        instance.put_entry(&stack).await;
        while !stack.get(PATH).await.is_ok_and(|answer| answered_by(&answer) == instance.name) {
            assert!(started.elapsed() < Duration::from_secs(5), "{} never answered", instance.name);
        }
        times.push(started.elapsed());
        instance.delete_entry(&stack).await;
        eventually("the instance is removed", async || !stack.has_server(&instance.name).await).await;
    }
    times.sort();
    let (median, worst) = (times[JOINS / 2], times[JOINS - 1]);
    println!("etcd put to first answer through the balancer, {JOINS} joins: p50 {median:?}, max {worst:?}");
    assert!(median < JOIN_TIME_MAX, "half of the joins took longer than {JOIN_TIME_MAX:?}: {median:?}");
    // The machine may be busy during one of the joins.
    assert!(worst < JOIN_TIME_MAX * 10, "a join took {worst:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_instance_loses_no_request() {
    let (stack, _remaining) = Stack::start_with_users().await;
    let stopping = Instance::start(&stack, "users", "users-2").await;
    stack.wait_for_instance(PATH, "users-2").await;
    eventually("the balancer acknowledges", async || {
        stack.registry.get(&keys::balancer("users", "users-2")).await.is_ok_and(|value| value.is_some())
    })
    .await;

    let load = Load::start(&stack, PATH);
    load.more(200).await;
    assert_eq!(stopping.stop().await, Deregistration::Confirmed);
    load.more(200).await;
    load.end_without_failure().await;
    eventually("the server is removed", async || !stack.has_server("users-2").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_instance_can_stop_though_its_checks_pass() {
    let (stack, last) = Stack::start_with_users().await;
    assert_eq!(last.stop().await, Deregistration::Confirmed);
    eventually("the server is removed", async || !stack.has_server("users-1").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_current_request_is_finished_when_its_instance_stops() {
    let (stack, instance) = Stack::start_with_users().await;
    let slow = tokio::spawn(stack.http.get(format!("{}{PATH}/slow", stack.public)).send());
    eventually("the request has arrived", async || {
        let stat = stack.admin.send("show stat -1 4 -1").await.unwrap_or_default();
        stat.lines().any(|line| line.starts_with("users,users-1,") && line.split(',').nth(4) == Some("1"))
    })
    .await;
    assert_eq!(instance.stop().await, Deregistration::Confirmed);
    assert_eq!(slow.await.expect("no panic").expect("an answer").status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_do_not_fail_when_one_of_two_instances_crashes() {
    let (stack, _remaining) = Stack::start_with_users().await;
    let crashing = Instance::start(&stack, "users", "users-2").await;
    stack.wait_for_instance(PATH, "users-2").await;

    let load = Load::start(&stack, PATH);
    load.more(200).await;
    crashing.crash();
    load.more(200).await;
    eventually("its lease ends and its server is removed", async || !stack.has_server("users-2").await).await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_restarts_at_another_port_is_found() {
    let (stack, before) = Stack::start_with_users().await;
    before.crash();
    let after = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_status(PATH, 200).await;
    let state = stack.admin.send("show servers state").await.expect("HAProxy answers");
    assert!(state.contains(&format!(" {} ", after.address.port())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_a_new_name_is_added_without_a_failed_request() {
    let (stack, _users) = Stack::start_with_users().await;

    let load = Load::start(&stack, PATH);
    load.more(100).await;
    let rooms = ServiceDefinition::public("rooms", &["/api/rooms"]);
    stack.route("rooms", 100).await;
    let _rooms = Instance::start_as(&stack, &rooms, "rooms-1").await;
    stack.wait_for_instance("/api/rooms/7", "rooms-1").await;
    load.more(200).await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_balancers_an_instance_stops_when_neither_uses_it() {
    let stack = Stack::start_with(&[("BALANCER_NAME", "haproxy-1")]).await;
    stack.route("users", 100).await;
    let instance = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance(PATH, "users-1").await;
    let key = |balancer: &str| format!("{}/{balancer}", keys::balancer("users", "users-1"));
    let (own, other) = (key("haproxy-1"), key("haproxy-2"));
    let exists = async |key: &str| stack.registry.get(key).await.is_ok_and(|value| value.is_some());
    eventually("the balancer acknowledges", async || exists(&own).await).await;
    // As the agent of the other balancer does.
    stack.registry.put(&other, r#"{"state":"up"}"#, None).await.expect("written");

    let stopping = instance.stop();
    let other_balancer = async {
        eventually("this balancer does not use it", async || !exists(&own).await).await;
        assert!(exists(&other).await, "the report of the other balancer is not deleted");
        stack.registry.delete(&other).await.expect("deleted");
    };
    let (deregistration, ()) = tokio::join!(stopping, other_balancer);
    assert_eq!(deregistration, Deregistration::Confirmed);
}
