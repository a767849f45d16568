//! Requests of parts: they follow the records, and while a part moves some users read at its replica.

use flack_catalogue::Service;
use flack_common::registry::ServiceDefinition;
use flack_handover::{Part, Record, Side, Stage};
use flack_testing::eventually;
use reqwest::{Method, RequestBuilder};

use crate::support::{Instance, Stack, answered_by, seen, token};

const PATH: &str = "/api/users";
const FOLLOWED: Record = Record { epoch: 2, ..Record::initial(Side::Monolith).at(Stage::Shifting) };
const USERS: usize = 300;

/// Starts both sides of users.
async fn start() -> (Stack, [Instance; 2]) {
    let (stack, monolith) = Stack::start_with_monolith().await;
    let service = Instance::start(&stack, "users", "users-1").await;
    stack.wait_for_instance_at(&stack.internal, "/internal/users/x", "users-1").await;
    (stack, [monolith, service])
}

/// Sends a request, and returns which instance has answered and whether the request permits a replica to answer.
async fn side(request: RequestBuilder) -> (String, bool) {
    let answer = request.send().await.expect("an answer");
    (answered_by(&answer).to_owned(), seen(&answer, "x-seen-read") == "replica")
}

fn request(stack: &Stack, method: Method, user: usize) -> RequestBuilder {
    stack.http.request(method, format!("{}{PATH}", stack.public)).bearer_auth(token(user))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_paths_of_a_part_go_to_the_owner_in_its_record_whatever_its_route_says() {
    let (stack, _sides) = start().await;
    stack.route("users", 100).await;
    stack.wait_for_instance(PATH, "users-1").await;
    let mut record = Record::initial(Side::Monolith);
    for _ in 0..2 {
        stack.record(Part::Users, record).await;
        stack.wait_for_acknowledgement(Part::Users, record).await;
        let answer = stack.get(PATH).await.expect("an answer");
        assert_eq!(answered_by(&answer), "monolith-1", "{record:?}");
        record = record.at(Stage::Following).intent();
        let owned = record.switched(1);
        stack.record(Part::Users, owned).await;
        stack.wait_for_acknowledgement(Part::Users, owned).await;
        assert_eq!(answered_by(&stack.get(PATH).await.expect("an answer")), "users-1", "{owned:?}");
        record = owned.intent().switched(2);
    }
    // A part without data has a record for its paths.
    let websocket = ServiceDefinition::of(Service::named("websocket"));
    let websocket = Instance::start_as(&stack, &websocket, "websocket-1").await;
    let record = Record::initial(Side::Service);
    stack.record(Part::Websocket, record).await;
    stack.wait_for_acknowledgement(Part::Websocket, record).await;
    stack.wait_for_instance("/ws", &websocket.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_users_reads_at_the_replica_and_nobody_writes_there() {
    let (stack, _sides) = start().await;
    let shifted = Record { read_percent: 30, ..FOLLOWED };
    stack.record(Part::Users, shifted).await;
    stack.wait_for_acknowledgement(Part::Users, shifted).await;
    let mut readers = Vec::new();
    for user in 0..USERS {
        match side(request(&stack, Method::GET, user)).await {
            (instance, true) => {
                assert_eq!(instance, "users-1");
                readers.push(user);
            }
            (instance, false) => assert_eq!(instance, "monolith-1"),
        }
    }
    let share = readers.len() * 100 / USERS;
    assert!((20..=40).contains(&share), "{share} % instead of 30 %");
    for user in readers.iter().take(20) {
        assert_eq!(
            side(request(&stack, Method::GET, *user)).await,
            ("users-1".to_owned(), true),
            "{user} changed sides"
        );
    }
    let owner = ("monolith-1".to_owned(), false);
    assert_eq!(side(stack.http.get(format!("{}{PATH}", stack.public))).await, owner, "without a token");
    assert_eq!(side(stack.http.get(format!("{}/", stack.public)).bearer_auth(token(readers[0]))).await, owner);

    // Who has written reads at the owner for 5 s; also if the write was passed on between the sides.
    assert_eq!(side(request(&stack, Method::POST, readers[0])).await, owner);
    let passed_on = stack.http.post(format!("{}/internal/users{PATH}", stack.internal)).bearer_auth(token(readers[1]));
    assert_eq!(side(passed_on).await.0, "users-1");
    for reader in &readers[..2] {
        assert_eq!(side(request(&stack, Method::GET, *reader)).await, owner);
    }
    assert_eq!(side(request(&stack, Method::GET, readers[2])).await, ("users-1".to_owned(), true), "another user");
    eventually("the writer reads at the replica again", async || {
        side(request(&stack, Method::GET, readers[0])).await.1
    })
    .await;

    let ended = shifted.intent().undone();
    stack.record(Part::Users, ended).await;
    stack.wait_for_acknowledgement(Part::Users, ended).await;
    assert_eq!(side(request(&stack, Method::GET, readers[2])).await, owner);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_stay_at_the_owner_while_the_replica_has_no_instance() {
    let (stack, _monolith) = Stack::start_with_monolith().await;
    let shifted = Record { read_percent: 100, ..FOLLOWED };
    stack.record(Part::Users, shifted).await;
    stack.wait_for_acknowledgement(Part::Users, shifted).await;
    assert_eq!(side(request(&stack, Method::GET, 1)).await, ("monolith-1".to_owned(), false));
    let _service = Instance::start(&stack, "users", "users-1").await;
    eventually("the replica answers", async || side(request(&stack, Method::GET, 1)).await.1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_between_the_sides_reach_only_internal_operations_and_clients_cannot_send_them() {
    let (stack, _sides) = start().await;
    let send = async |url: String| {
        let request = stack.http.get(url).header("X-Flack-Read", "replica").header("X-Flack-Epoch", "7");
        let answer = request.send().await.expect("an answer");
        ["x-flack-instance", "x-seen-path", "x-seen-read", "x-seen-epoch"].map(|name| seen(&answer, name).to_owned())
    };
    for listener in [&stack.public, &stack.internal] {
        assert_eq!(send(format!("{listener}{PATH}")).await, ["monolith-1", PATH, "-", "-"]);
    }
    for path in ["/internal/users/api/users/7", "//internal/users/api/users", "/%69nternal/users/api/users"] {
        assert_eq!(send(format!("{}{path}", stack.public)).await[0], "", "{path} is not public");
    }
    let url = format!("{}/internal/users/api/users/7?limit=1", stack.internal);
    assert_eq!(send(url).await, ["users-1", "/api/users/7", "replica", "7"]);
    let url = format!("{}/internal/users/handover/users/status", stack.internal);
    assert_eq!(send(url).await[1], "/internal/users/handover/users/status", "only the API has another path");
}
