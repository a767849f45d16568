//! Every event reaches every socket once, in order, also those who come back.

use serde_json::json;

use crate::{
    nats::{Nats, message, user},
    server::Server,
};

#[tokio::test]
async fn a_message_reaches_every_socket_of_every_instance_once_and_as_the_api_answers_it() {
    let nats = Nats::start().await;
    let (one, other) = (Server::start(&nats).await, Server::start(&nats).await);
    let mut clients = [one.listener().await, one.user(2).await, other.listener().await];
    nats.tell_message(1, "first").await;
    nats.tell_message(2, "second").await;
    for client in &mut clients {
        let frame = client.next().await;
        assert_eq!(
            frame["model"],
            json!({ "id": 1, "created_at": 1, "updated_at": 1, "source": "first", "html": "<p>first</p>", "user_id": 1,
                "_links": { "self": "/api/messages/1", "user": "/api/users/1" } })
        );
        assert_eq!(client.next_source().await, "second");
    }
}

#[tokio::test]
async fn a_user_is_told_as_the_api_answers_it_and_what_is_not_for_clients_is_not_told() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.listener().await;
    nats.publish("monolith", "channel_changed", json!({ "id": 1, "name": "general", "created_at": 1 })).await;
    nats.publish("users", "user_changed", user(7, "susan")).await;
    let frame = client.next().await;
    assert_eq!(frame["class"], "User");
    assert_eq!(
        frame["model"],
        json!({ "id": 7, "created_at": 1, "updated_at": 2, "last_seen_at": 3, "nickname": "susan", "online": true,
            "_links": { "self": "/api/users/7", "messages": "/api/messages?user_id=7", "tokens": "/api/tokens" } })
    );
}

#[tokio::test]
async fn the_streams_of_the_services_and_of_the_monolith_are_one_to_a_client() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.listener().await;
    nats.publish("monolith", "message_changed", message(1, "from the monolith")).await;
    assert_eq!(client.next_source().await, "from the monolith");
    nats.tell_message(2, "from the service").await;
    assert_eq!(client.next_source().await, "from the service");
}

#[tokio::test]
async fn an_event_that_is_published_twice_or_replayed_is_told_once() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.listener().await;
    nats.publish_as("messages", "message_changed", message(1, "once"), 77, "").await;
    nats.publish_as("messages", "message_changed", message(1, "once"), 77, "-again").await;
    nats.publish_as("messages", "message_changed", message(2, "replayed"), 5, "~9").await;
    nats.publish_as("messages", "message_changed", message(3, "after"), 78, "").await;
    assert_eq!(client.next_source().await, "once");
    assert_eq!(client.next_source().await, "after");
}

#[tokio::test]
async fn who_comes_back_with_a_cursor_gets_exactly_what_was_missed_at_any_instance() {
    let nats = Nats::start().await;
    let (one, other) = (Server::start(&nats).await, Server::start(&nats).await);
    let mut client = one.listener().await;
    nats.tell_message(1, "before").await;
    assert_eq!(client.next_source().await, "before");
    let left = client;
    nats.tell_message(2, "missed").await;
    nats.publish("users", "user_changed", user(7, "susan")).await;
    nats.tell_message(3, "missed too").await;
    let (mut back, resumed) = left.come_back_to(other.address).await;
    assert!(resumed);
    let mut missed = Vec::new();
    for _ in 0..3 {
        let frame = back.next().await;
        missed.push(frame["model"]["source"].as_str().unwrap_or("susan").to_owned());
    }
    missed.sort_unstable();
    assert_eq!(missed, ["missed", "missed too", "susan"]);
    nats.tell_message(4, "now").await;
    assert_eq!(back.next_source().await, "now");
}

#[tokio::test]
async fn an_instance_that_has_just_started_resumes_the_clients_of_one_that_was_stopped() {
    let nats = Nats::start().await;
    let old = Server::start(&nats).await;
    let mut client = old.listener().await;
    nats.tell_message(1, "before").await;
    assert_eq!(client.next_source().await, "before");
    drop(old);
    nats.tell_message(2, "missed").await;
    let new = Server::start(&nats).await;
    let (mut back, resumed) = client.come_back_to(new.address).await;
    assert!(resumed);
    assert_eq!(back.next_source().await, "missed");
}

#[tokio::test]
async fn a_cursor_that_means_nothing_here_is_not_resumed() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    nats.tell_message(1, "old").await;
    for cursor in ["nonsense", "abc-abc-abc.1-1-1"] {
        let welcome = server.connect().await.hello(json!({ "cursor": cursor })).await;
        assert_eq!(welcome["resumed"], false, "{cursor}");
    }
}

#[tokio::test]
async fn nats_killed_and_back_loses_and_doubles_nothing() {
    let mut nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.listener().await;
    nats.tell_message(1, "before").await;
    assert_eq!(client.next_source().await, "before");
    nats.kill();
    nats.up().await;
    nats.tell_message(2, "after").await;
    assert_eq!(client.next_source().await, "after");
    nats.tell_message(3, "later").await;
    assert_eq!(client.next_source().await, "later");
}

#[tokio::test]
async fn when_nats_lost_its_disk_clients_are_told_to_come_back_and_reload() {
    let mut nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.listener().await;
    nats.tell_message(1, "before").await;
    assert_eq!(client.next_source().await, "before");
    nats.kill();
    nats.forget_everything();
    nats.up().await;
    nats.tell_message(2, "after").await;
    assert_eq!(u16::from(client.closed().await.code), 1012);
    let (mut back, resumed) = client.come_back_to(server.address).await;
    assert!(!resumed);
    nats.tell_message(3, "later").await;
    // The first one of the new stream may still have been on its way when they came back.
    let source = back.next_source().await;
    assert!(source == "later" || (source == "after" && back.next_source().await == "later"), "{source}");
}
