use std::collections::BTreeMap;

use flack_common::registry::{ServiceDefinition, keys};
use flack_testing::eventually;

use crate::support::{Instance, Stack, answered_by, token};

const USERS: usize = 400;

#[tokio::test(flavor = "multi_thread")]
async fn a_percentage_of_users_is_routed_to_the_service_and_each_user_stays_on_one_side() {
    let stack = Stack::start().await;
    stack.route("users", 25).await;
    let _monolith = Instance::start(&stack, "monolith", "monolith-1").await;
    let _users = Instance::start(&stack, "users", "users-1").await;
    eventually("both sides and the percentage are present", async || {
        let percent = stack.admin.send("show map percent.map").await.unwrap_or_default();
        stack.has_server("monolith-1").await && stack.has_server("users-1").await && percent.contains("users 25")
    })
    .await;

    let side = async |user: usize| {
        let request = stack.http.get(format!("{}/api/users", stack.public)).bearer_auth(token(user));
        answered_by(&request.send().await.expect("an answer")).to_owned()
    };
    let mut sides: BTreeMap<usize, String> = BTreeMap::new();
    for user in 0..USERS {
        sides.insert(user, side(user).await);
    }
    for user in (0..USERS).step_by(20) {
        assert_eq!(side(user).await, sides[&user], "user {user} changed sides");
    }
    let share = sides.values().filter(|side| *side == "users-1").count() * 100 / USERS;
    assert!((15..=35).contains(&share), "{share} % instead of 25 %");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_route_sends_its_requests_to_the_monolith() {
    let (stack, _users) = Stack::start_with_users().await;
    let _monolith = Instance::start(&stack, "monolith", "monolith-1").await;
    stack.registry.delete(&keys::route("users")).await.expect("etcd answers");
    stack.wait_for_instance("/api/users/7", "monolith-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exact_location_does_not_include_paths_below_it() {
    let stack = Stack::start().await;
    stack.route("ui", 100).await;
    let _monolith = Instance::start(&stack, "monolith", "monolith-1").await;
    let ui = ServiceDefinition::public("ui", &["=/", "/static"]);
    let _ui = Instance::start_as(&stack, &ui, "ui-1").await;
    stack.wait_for_instance("/", "ui-1").await;
    stack.wait_for_instance("/static/app.js", "ui-1").await;
    stack.wait_for_instance("/other", "monolith-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_service_is_not_found_at_the_public_listener() {
    let stack = Stack::start().await;
    let audit = ServiceDefinition::internal("audit", &["/api/audit"]);
    stack.route("audit", 100).await;
    let _audit = Instance::start_as(&stack, &audit, "audit-1").await;
    stack.wait_for_instance_at(&stack.internal, "/api/audit/1", "audit-1").await;
    assert_eq!(stack.get("/api/audit/1").await.expect("an answer").status(), 404);
}
