//! Every event reaches every connection once and in order, also after a reconnect.

use flack_testing::Nats;
use serde_json::json;

use crate::{
    model::{message, publish_message, user},
    server::{Server, start_with_anonymous},
};

#[tokio::test]
async fn a_message_reaches_every_connection_of_every_instance_once_as_rest_returns_it() {
    let nats = Nats::start().await;
    let (one, other) = (Server::start(&nats).await, Server::start(&nats).await);
    let mut clients = [one.anonymous().await, one.user(2).await, other.anonymous().await];
    publish_message(&nats, 1, "first").await;
    publish_message(&nats, 2, "second").await;
    for client in &mut clients {
        let frame = client.next().await;
        assert_eq!(
            frame["model"],
            json!({ "id": 1, "created_at": 1, "updated_at": 1, "source": "first", "html": "<p>first</p>",
                "user_id": 1, "_links": { "self": "/api/messages/1", "user": "/api/users/1" } })
        );
        assert_eq!(client.next_source().await, "second");
    }
}

#[tokio::test]
async fn a_user_is_delivered_as_rest_returns_it_and_other_events_are_not_delivered() {
    let (nats, _server, mut client) = start_with_anonymous().await;
    nats.publish("monolith", "channel_changed", json!({ "id": 1, "name": "general", "created_at": 1 })).await;
    nats.publish("users", "user_changed", user(7, "susan")).await;
    let frame = client.next().await;
    assert_eq!(frame["class"], "User");
    assert_eq!(
        frame["model"],
        json!({ "id": 7, "created_at": 1, "updated_at": 2, "last_seen_at": 3, "nickname": "susan", "online": true,
            "_links": { "self": "/api/users/7", "messages": "/api/messages", "tokens": "/api/tokens" } })
    );
}

#[tokio::test]
async fn a_client_gets_the_events_of_the_services_and_of_the_monolith() {
    let (nats, _server, mut client) = start_with_anonymous().await;
    nats.publish("monolith", "message_changed", message(1, "from the monolith")).await;
    assert_eq!(client.next_source().await, "from the monolith");
    publish_message(&nats, 2, "from the service").await;
    assert_eq!(client.next_source().await, "from the service");
}

#[tokio::test]
async fn an_event_that_is_published_twice_or_replayed_is_delivered_once() {
    let (nats, _server, mut client) = start_with_anonymous().await;
    nats.publish_as("messages", "message_changed", message(1, "once"), 77, "").await;
    nats.publish_as("messages", "message_changed", message(1, "once"), 77, "-again").await;
    nats.publish_as("messages", "message_changed", message(2, "replayed"), 5, "~9").await;
    nats.publish_as("messages", "message_changed", message(3, "after"), 78, "").await;
    assert_eq!(client.next_source().await, "once");
    assert_eq!(client.next_source().await, "after");
}

#[tokio::test]
async fn a_cursor_is_resumed_at_any_instance_with_exactly_the_missed_events() {
    let nats = Nats::start().await;
    let (one, other) = (Server::start(&nats).await, Server::start(&nats).await);
    let mut client = one.anonymous().await;
    publish_message(&nats, 1, "before").await;
    assert_eq!(client.next_source().await, "before");
    publish_message(&nats, 2, "missed").await;
    nats.publish("users", "user_changed", user(7, "susan")).await;
    publish_message(&nats, 3, "missed too").await;
    let mut client = client.resume_at(&other).await;
    let mut missed = Vec::new();
    for _ in 0..3 {
        let frame = client.next().await;
        missed.push(frame["model"]["source"].as_str().unwrap_or("susan").to_owned());
    }
    missed.sort_unstable();
    assert_eq!(missed, ["missed", "missed too", "susan"]);
    publish_message(&nats, 4, "now").await;
    assert_eq!(client.next_source().await, "now");
}

#[tokio::test]
async fn a_new_instance_resumes_the_clients_of_a_stopped_one() {
    let nats = Nats::start().await;
    let old = Server::start(&nats).await;
    let mut client = old.anonymous().await;
    publish_message(&nats, 1, "before").await;
    assert_eq!(client.next_source().await, "before");
    drop(old);
    publish_message(&nats, 2, "missed").await;
    let new = Server::start(&nats).await;
    let mut client = client.resume_at(&new).await;
    assert_eq!(client.next_source().await, "missed");
}

#[tokio::test]
async fn an_invalid_or_foreign_cursor_is_not_resumed() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    publish_message(&nats, 1, "old").await;
    for cursor in ["nonsense", "abc-abc-abc.1-1-1"] {
        let welcome = server.connect().await.hello(json!({ "cursor": cursor })).await;
        assert_eq!(welcome["resumed"], false, "{cursor}");
    }
}

#[tokio::test]
async fn a_restart_of_nats_loses_and_repeats_nothing() {
    let mut nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.anonymous().await;
    publish_message(&nats, 1, "before").await;
    assert_eq!(client.next_source().await, "before");
    nats.kill();
    nats.start_again().await;
    publish_message(&nats, 2, "after").await;
    assert_eq!(client.next_source().await, "after");
    publish_message(&nats, 3, "later").await;
    assert_eq!(client.next_source().await, "later");
}

#[tokio::test]
async fn when_nats_loses_its_disk_clients_are_closed_with_1012_and_not_resumed() {
    let mut nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.anonymous().await;
    publish_message(&nats, 1, "before").await;
    assert_eq!(client.next_source().await, "before");
    nats.kill_and_lose_data();
    nats.start_again().await;
    publish_message(&nats, 2, "after").await;
    assert_eq!(u16::from(client.closed().await.code), 1012);
    let mut client = client.reload_at(&server).await;
    publish_message(&nats, 3, "later").await;
    // The first message of the new stream may arrive only after the reconnect.
    let source = client.next_source().await;
    assert!(source == "later" || (source == "after" && client.next_source().await == "later"), "{source}");
}
