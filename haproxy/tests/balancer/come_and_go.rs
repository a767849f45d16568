use std::time::{Duration, Instant};

use flack_common::registry::{Deregistration, ServiceDefinition, keys};

use crate::support::{Instance, Load, Stack, answered_by, wait_for};

const PATH: &str = "/api/users";
/// What we promise: a new instance answers through the balancer this soon after its registration.
const JOIN_PROMISE: Duration = Duration::from_millis(100);
const JOINS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_instance_answers_within_a_tenth_of_a_second() {
    let stack = Stack::start().await;
    stack.route("users", 100).await;
    let _first = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance(PATH, "users-1").await;

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
        wait_for("the instance to be out", async || !stack.has_server(&instance.name).await).await;
    }
    times.sort();
    let (median, worst) = (times[JOINS / 2], times[JOINS - 1]);
    println!("etcd put to first answer through the balancer, {JOINS} joins: p50 {median:?}, max {worst:?}");
    assert!(median < JOIN_PROMISE, "half of the joins took longer than {JOIN_PROMISE:?}: {median:?}");
    // One in fifty may meet a machine that is busy with something else.
    assert!(worst < JOIN_PROMISE * 10, "a join took {worst:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_leaves_loses_no_request() {
    let stack = Stack::start().await;
    stack.route("users", 100).await;
    let _stays = Instance::start(&stack, "users", "users-1").await;
    let goes = Instance::start(&stack, "users", "users-2").await;
    stack.wait_for_instance(PATH, "users-2").await;
    wait_for("the balancer to acknowledge", async || {
        stack.registry.get(&keys::balancer("users", "users-2")).await.is_ok_and(|value| value.is_some())
    })
    .await;

    let load = Load::start(&stack, PATH);
    load.more(200).await;
    assert_eq!(goes.leave().await, Deregistration::Confirmed);
    load.more(200).await;
    load.end_without_failure().await;
    wait_for("the server to be removed", async || !stack.has_server("users-2").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_instance_can_leave_though_its_checks_pass() {
    let stack = Stack::start().await;
    stack.route("users", 100).await;
    let last = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance(PATH, "users-1").await;
    assert_eq!(last.leave().await, Deregistration::Confirmed);
    wait_for("the server to be removed", async || !stack.has_server("users-1").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_finished_when_its_instance_leaves() {
    let stack = Stack::start().await;
    stack.route("users", 100).await;
    let instance = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance(PATH, "users-1").await;
    let slow = tokio::spawn(stack.http.get(format!("{}{PATH}/slow", stack.public)).send());
    wait_for("the request to be there", async || {
        let stat = stack.admin.ask("show stat -1 4 -1").await.unwrap_or_default();
        stat.lines().any(|line| line.starts_with("users,users-1,") && line.split(',').nth(4) == Some("1"))
    })
    .await;
    assert_eq!(instance.leave().await, Deregistration::Confirmed);
    assert_eq!(slow.await.expect("no panic").expect("an answer").status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_do_not_fail_when_one_of_two_instances_crashes() {
    let stack = Stack::start().await;
    stack.route("users", 100).await;
    let _stays = Instance::start(&stack, "users", "users-1").await;
    let crashes = Instance::start(&stack, "users", "users-2").await;
    stack.wait_for_instance(PATH, "users-2").await;

    let load = Load::start(&stack, PATH);
    load.more(200).await;
    crashes.crash();
    load.more(200).await;
    wait_for("its lease to end and its server to be removed", async || !stack.has_server("users-2").await)
        .await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_comes_back_at_another_port_is_found() {
    let stack = Stack::start().await;
    stack.route("users", 100).await;
    let before = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance(PATH, "users-1").await;
    before.crash();
    let after = Instance::start(&stack, "users", "users-1").await;
    wait_for("the new place to answer", async || {
        stack.get(PATH).await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let state = stack.admin.ask("show servers state").await.expect("HAProxy is there");
    assert!(state.contains(&format!(" {} ", after.address.port())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_a_new_name_comes_without_a_failed_request() {
    let stack = Stack::start().await;
    stack.route("users", 100).await;
    let _users = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance(PATH, "users-1").await;

    let load = Load::start(&stack, PATH);
    load.more(100).await;
    let rooms = ServiceDefinition::public("rooms", &["/api/rooms"]);
    stack.route("rooms", 100).await;
    let _rooms = Instance::start_as(&stack, &rooms, "rooms-1").await;
    stack.wait_for_instance("/api/rooms/7", "rooms-1").await;
    load.more(200).await;
    load.end_without_failure().await;
}
