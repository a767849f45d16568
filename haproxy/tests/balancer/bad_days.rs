use flack_haproxy::knowledge::MARK_KEY;

use crate::support::{Instance, Load, Stack, wait_for};

const PATH: &str = "/api/users";

#[tokio::test(flavor = "multi_thread")]
async fn traffic_goes_on_while_etcd_is_away_and_joins_work_again_after() {
    let mut stack = Stack::start().await;
    stack.route("users", 100).await;
    let _first = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance(PATH, "users-1").await;

    let load = Load::start(&stack, PATH);
    stack.kill_etcd().await;
    load.more(200).await;
    stack.start_etcd().await;
    let _second = Instance::start(&stack, "users", "users-2").await;
    stack.wait_for_instance(PATH, "users-2").await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_comes_back_empty_changes_nothing() {
    let mut stack = Stack::start().await;
    stack.route("users", 100).await;
    // Written by hand: nobody will register it again.
    let instance = Instance::listen("users", "users-1").await;
    instance.put_entry(&stack).await;
    stack.wait_for_instance(PATH, "users-1").await;
    wait_for("the agent's mark", async || {
        stack.registry.get(MARK_KEY).await.is_ok_and(|mark| mark.is_some())
    })
    .await;

    let load = Load::start(&stack, PATH);
    stack.wipe_etcd().await;
    stack.start_etcd().await;
    wait_for("the agent to see it", async || {
        stack.registry.get(MARK_KEY).await.is_ok_and(|mark| mark.is_some())
    })
    .await;
    load.more(200).await;
    load.end_without_failure().await;
    assert!(stack.has_server("users-1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_entries_of_a_service_vanish_its_healthy_instances_stay_until_they_fail() {
    let stack = Stack::start().await;
    stack.route("users", 100).await;
    let instance = Instance::listen("users", "users-1").await;
    instance.put_entry(&stack).await;
    stack.wait_for_instance(PATH, "users-1").await;
    instance.delete_entry(&stack).await;
    // What comes after has been seen: so has the deletion.
    let _later = Instance::start(&stack, "tokens", "tokens-1").await;
    wait_for("the agent to go on", async || stack.has_server("tokens-1").await).await;
    assert!(stack.has_server("users-1").await);
    assert_eq!(stack.get(PATH).await.expect("an answer").status(), 200);

    instance.set_ready(false);
    wait_for("the unhealthy server to be removed", async || !stack.has_server("users-1").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_catches_up_and_nobody_notices() {
    let mut stack = Stack::start().await;
    stack.route("users", 100).await;
    let _first = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance(PATH, "users-1").await;

    let load = Load::start(&stack, PATH);
    stack.kill_agent().await;
    let _second = Instance::start(&stack, "users", "users-2").await;
    load.more(200).await;
    assert!(!stack.has_server("users-2").await, "who should have added it?");
    stack.start_agent();
    stack.wait_for_instance(PATH, "users-2").await;
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_haproxy_has_its_servers_and_routes_without_any_help() {
    let mut stack = Stack::start().await;
    stack.route("users", 100).await;
    let _users = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance(PATH, "users-1").await;
    let configuration = stack.dir.path().join("haproxy.cfg");
    wait_for("the files to be written", async || {
        std::fs::read_to_string(&configuration).is_ok_and(|text| text.contains("server users-1 "))
    })
    .await;
    stack.kill_agent().await;
    stack.kill_etcd().await;
    stack.kill_haproxy().await;
    stack.start_haproxy().await;
    stack.wait_for_instance(PATH, "users-1").await;

    stack.start_agent();
    stack.start_etcd().await;
    let _second = Instance::start(&stack, "users", "users-2").await;
    stack.wait_for_instance(PATH, "users-2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_deleted_by_hand_comes_back() {
    let stack = Stack::start().await;
    stack.route("users", 100).await;
    let _users = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance(PATH, "users-1").await;
    let answer = stack.admin.ask("set server users/users-1 state maint; del server users/users-1").await;
    assert!(answer.expect("HAProxy is there").contains("deleted"));
    stack.wait_for_instance(PATH, "users-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_edited_by_hand_is_repaired() {
    let stack = Stack::start().await;
    stack.route("users", 100).await;
    let _users = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance(PATH, "users-1").await;
    stack
        .admin
        .ask("clear map prefix.map; add map prefix.map /api/wrong/ users")
        .await
        .expect("HAProxy is there");
    stack.wait_for_instance(PATH, "users-1").await;
    wait_for("the wrong entry to be gone", async || {
        !stack.admin.ask("show map prefix.map").await.unwrap_or_default().contains("wrong")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_deleted_by_hand_is_written_again_by_its_instance() {
    let stack = Stack::start().await;
    let instance = Instance::start(&stack, "users", "users-1").await;
    instance.delete_entry(&stack).await;
    let key = flack_common::registry::keys::instance("users", "users-1");
    wait_for("the entry to come back", async || {
        stack.registry.get(&key).await.is_ok_and(|entry| entry.is_some())
    })
    .await;
}
