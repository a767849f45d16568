use flack_haproxy::last_known::MARKER_KEY;
use flack_testing::eventually;

use crate::support::{Instance, Load, Stack};

const PATH: &str = "/api/users";

async fn wait_for_marker(stack: &Stack) {
    eventually("the agent writes its marker", async || {
        stack.registry.get(MARKER_KEY).await.is_ok_and(|marker| marker.is_some())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_continues_while_etcd_is_down_and_new_instances_are_added_afterwards() {
    let (mut stack, _first) = Stack::start_with_users().await;

    let load = Load::start(&stack, PATH);
    stack.etcd.stop();
    load.more(200).await;
    stack.etcd.start_again().await;
    let _second = Instance::start(&stack, "users", "users-2").await;
    stack.wait_for_instance(PATH, "users-2").await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_has_lost_its_data_changes_nothing() {
    let mut stack = Stack::start().await;
    stack.route("users", 100).await;
    // No process renews this entry.
    let instance = Instance::listen("users", "users-1").await;
    instance.put_entry(&stack).await;
    stack.wait_for_instance(PATH, "users-1").await;
    wait_for_marker(&stack).await;

    let load = Load::start(&stack, PATH);
    stack.etcd.stop_and_lose_data();
    stack.etcd.start_again().await;
    wait_for_marker(&stack).await;
    load.more(200).await;
    load.end_without_failure().await;
    assert!(stack.has_server("users-1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_entries_of_a_service_vanish_its_healthy_instances_are_kept_until_they_fail() {
    let stack = Stack::start().await;
    stack.route("users", 100).await;
    let instance = Instance::listen("users", "users-1").await;
    instance.put_entry(&stack).await;
    stack.wait_for_instance(PATH, "users-1").await;
    instance.delete_entry(&stack).await;
    // When the agent has processed a later change, it has processed the deletion.
    let _later = Instance::start(&stack, "tokens", "tokens-1").await;
    eventually("the agent adds tokens-1", async || stack.has_server("tokens-1").await).await;
    assert!(stack.has_server("users-1").await);
    assert_eq!(stack.get(PATH).await.expect("an answer").status(), 200);

    instance.set_ready(false);
    eventually("the unhealthy server is removed", async || !stack.has_server("users-1").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_catches_up_without_a_failed_request() {
    let (mut stack, _first) = Stack::start_with_users().await;

    let load = Load::start(&stack, PATH);
    stack.kill_agent().await;
    let _second = Instance::start(&stack, "users", "users-2").await;
    load.more(200).await;
    assert!(!stack.has_server("users-2").await, "no agent runs that could have added it");
    stack.start_agent();
    stack.wait_for_instance(PATH, "users-2").await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_haproxy_has_its_servers_and_routes_without_agent_and_etcd() {
    let (mut stack, _users) = Stack::start_with_users().await;
    let configuration = stack.dir.path().join("haproxy.cfg");
    eventually("the files are written", async || {
        std::fs::read_to_string(&configuration).is_ok_and(|text| text.contains("server users-1 "))
    })
    .await;
    stack.kill_agent().await;
    stack.etcd.stop();
    stack.kill_haproxy().await;
    stack.start_haproxy().await;
    stack.wait_for_instance(PATH, "users-1").await;

    stack.start_agent();
    stack.etcd.start_again().await;
    let _second = Instance::start(&stack, "users", "users-2").await;
    stack.wait_for_instance(PATH, "users-2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manually_deleted_server_is_added_again() {
    let (stack, _users) = Stack::start_with_users().await;
    eventually("HAProxy has closed the kept connections, and deletes the server", async || {
        let answer = stack.admin.send("set server users/users-1 state maint; del server users/users-1").await;
        answer.expect("HAProxy answers").contains("deleted")
    })
    .await;
    stack.wait_for_instance(PATH, "users-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manually_changed_map_is_repaired() {
    let (stack, _users) = Stack::start_with_users().await;
    stack.admin.send("clear map prefix.map; add map prefix.map /api/wrong/ users").await.expect("HAProxy answers");
    stack.wait_for_instance(PATH, "users-1").await;
    eventually("the wrong entry is removed", async || {
        !stack.admin.send("show map prefix.map").await.unwrap_or_default().contains("wrong")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manually_deleted_entry_is_written_again_by_its_instance() {
    let stack = Stack::start().await;
    let instance = Instance::start(&stack, "users", "users-1").await;
    instance.delete_entry(&stack).await;
    let key = flack_common::registry::keys::instance("users", "users-1");
    eventually("the entry is written again", async || {
        stack.registry.get(&key).await.is_ok_and(|entry| entry.is_some())
    })
    .await;
}
