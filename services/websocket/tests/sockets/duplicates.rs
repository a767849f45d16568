//! While data moves from the monolith to a service, both streams hold the same versions. A client gets each of them
//! once.

use flack_testing::Nats;

use crate::{
    model::{message, publish_message, user},
    server::{Server, start_with_anonymous},
};

#[tokio::test]
async fn a_version_in_the_streams_of_monolith_and_service_is_delivered_once() {
    let (nats, _server, mut client) = start_with_anonymous().await;
    for owner in ["monolith", "messages"] {
        nats.publish(owner, "message_changed", message(1, "in both")).await;
    }
    for owner in ["users", "monolith"] {
        nats.publish(owner, "user_changed", user(7, "susan")).await;
    }
    publish_message(&nats, 2, "after").await;
    let mut delivered = Vec::new();
    for _ in 0..3 {
        let frame = client.next().await;
        let model = &frame["model"];
        delivered.push(model["source"].as_str().or(model["nickname"].as_str()).unwrap().to_owned());
    }
    delivered.sort_unstable();
    assert_eq!(delivered, ["after", "in both", "susan"]);
    // One more message shows that nothing else is in flight.
    publish_message(&nats, 3, "last").await;
    assert_eq!(client.next_source().await, "last");
}

#[tokio::test]
async fn a_resumed_client_does_not_get_a_version_again_from_the_other_stream() {
    let nats = Nats::start().await;
    let (one, other) = (Server::start(&nats).await, Server::start(&nats).await);
    let mut client = one.anonymous().await;
    nats.publish("monolith", "message_changed", message(1, "in both")).await;
    assert_eq!(client.next_source().await, "in both");
    nats.publish("messages", "message_changed", message(1, "in both")).await;
    publish_message(&nats, 2, "missed").await;
    let mut client = client.resume_at(&other).await;
    assert_eq!(client.next_source().await, "missed");
}
