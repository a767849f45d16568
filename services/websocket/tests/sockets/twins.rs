//! What both the monolith and a service tell of, while data moves from one to the other, reaches a socket once.

use crate::{
    nats::{Nats, message, user},
    server::Server,
};

#[tokio::test]
async fn the_same_version_from_the_monolith_and_from_a_service_is_told_once() {
    let nats = Nats::start().await;
    let server = Server::start(&nats).await;
    let mut client = server.listener().await;
    for owner in ["monolith", "messages"] {
        nats.publish(owner, "message_changed", message(1, "by both")).await;
    }
    for owner in ["users", "monolith"] {
        nats.publish(owner, "user_changed", user(7, "susan")).await;
    }
    nats.tell_message(2, "after").await;
    let mut told = Vec::new();
    for _ in 0..3 {
        let frame = client.next().await;
        let model = &frame["model"];
        told.push(model["source"].as_str().or(model["nickname"].as_str()).unwrap().to_owned());
    }
    told.sort_unstable();
    assert_eq!(told, ["after", "by both", "susan"]);
    // One more shows that nothing is on its way.
    nats.tell_message(3, "last").await;
    assert_eq!(client.next_source().await, "last");
}

#[tokio::test]
async fn who_was_told_by_one_stream_and_comes_back_is_not_told_by_the_other() {
    let nats = Nats::start().await;
    let (one, other) = (Server::start(&nats).await, Server::start(&nats).await);
    let mut client = one.listener().await;
    nats.publish("monolith", "message_changed", message(1, "by both")).await;
    assert_eq!(client.next_source().await, "by both");
    nats.publish("messages", "message_changed", message(1, "by both")).await;
    nats.tell_message(2, "missed").await;
    let (mut back, resumed) = client.come_back_to(other.address).await;
    assert!(resumed);
    assert_eq!(back.next_source().await, "missed");
}
