//! A subscription delivers every message of a stream once and in order, whatever the connection loses.

use async_nats::{HeaderMap, header::NATS_SEQUENCE, jetstream::stream::Config};
use flack_common::events::{Received, StartOffset, Subscription, prepare_stream, stream_name};
use flack_testing::Nats;
use serde_json::json;
use tokio::time::timeout;

use crate::things::WAIT_MAX;

/// More than a subscription buffers.
const MANY: u64 = 3_000;

async fn publish(nats: &Nats, kind: &str, count: u64) {
    nats.publish("things", kind, json!({ "id": 0 })).await;
    let client = nats.client().await;
    for number in 1..count {
        client.publish(format!("flack.things.{kind}.{number}"), "{}".into()).await.expect("sent");
    }
    client.flush().await.expect("the server has them");
}

async fn receive(subscription: &mut Subscription) -> Received {
    timeout(WAIT_MAX, subscription.next()).await.expect("it is received in time")
}

/// Receives the next message; returns its sequence.
async fn next(subscription: &mut Subscription) -> u64 {
    match receive(subscription).await {
        Received::Message(message) => message.sequence,
        other => panic!("received {other:?}"),
    }
}

/// Waits until the stream is opened; returns the offset.
async fn opened(subscription: &mut Subscription) -> u64 {
    loop {
        if let Received::Opened { after, .. } = receive(subscription).await {
            return after;
        }
    }
}

/// Publishes the first messages of a stream; returns a subscription that has received all of them.
async fn subscribed_after(nats: &Nats, count: u64) -> Subscription {
    publish(nats, "thing_changed", count).await;
    let mut subscription = nats.events().await.subscribe("things", None, StartOffset::Earliest);
    assert_eq!(opened(&mut subscription).await, 0);
    for sequence in 1..=count {
        assert_eq!(next(&mut subscription).await, sequence);
    }
    subscription
}

#[tokio::test]
async fn a_slow_subscriber_receives_every_message_and_does_not_delay_another_one() {
    let nats = Nats::start().await;
    publish(&nats, "thing_changed", 1).await;
    let events = nats.events().await;
    let mut slow = events.subscribe("things", None, StartOffset::Earliest);
    let mut fast = events.subscribe("things", None, StartOffset::Earliest);
    assert_eq!((opened(&mut slow).await, next(&mut slow).await), (0, 1));
    assert_eq!((opened(&mut fast).await, next(&mut fast).await), (0, 1));
    let publishing = publish(&nats, "thing_changed", MANY);
    let reading = async {
        for sequence in 2..=MANY + 1 {
            assert_eq!(next(&mut fast).await, sequence);
        }
    };
    tokio::join!(publishing, reading);
    for sequence in 2..=MANY + 1 {
        assert_eq!(next(&mut slow).await, sequence);
    }
}

#[tokio::test]
async fn a_subscription_starts_at_its_offset_and_continues_with_live_messages() {
    let nats = Nats::start().await;
    publish(&nats, "thing_changed", MANY).await;
    let events = nats.events().await;
    let mut last = events.subscribe("things", None, StartOffset::Last(10));
    let Received::Opened { incarnation, after, last: end } = receive(&mut last).await else { panic!("not opened") };
    assert_eq!((after, end), (MANY - 10, MANY));
    let mut stored = events.subscribe("things", None, StartOffset::After { incarnation, sequence: MANY - 2 });
    assert_eq!(opened(&mut stored).await, MANY - 2);
    publish(&nats, "thing_changed", 5).await;
    for sequence in MANY - 9..=MANY + 5 {
        assert_eq!(next(&mut last).await, sequence);
    }
    for sequence in MANY - 1..=MANY + 5 {
        assert_eq!(next(&mut stored).await, sequence);
    }
}

#[tokio::test]
async fn a_subscription_to_one_kind_skips_the_others_in_the_past_and_live() {
    let nats = Nats::start().await;
    for _ in 0..3 {
        publish(&nats, "other_changed", 400).await;
        publish(&nats, "thing_changed", 2).await;
    }
    publish(&nats, "other_changed", 400).await;
    let events = nats.events().await;
    let mut subscription = events.subscribe("things", Some("thing_changed"), StartOffset::Earliest);
    opened(&mut subscription).await;
    for sequence in [401, 402, 803, 804, 1205, 1206] {
        assert_eq!(next(&mut subscription).await, sequence);
    }
    let reading = tokio::spawn(async move { next(&mut subscription).await });
    publish(&nats, "other_changed", MANY).await;
    publish(&nats, "thing_changed", 1).await;
    assert_eq!(reading.await.expect("it is received"), 1607 + MANY);
}

#[tokio::test]
async fn messages_that_the_stream_has_deleted_are_reported_as_a_gap() {
    let nats = Nats::start().await;
    publish(&nats, "thing_changed", 10).await;
    let stream = nats.jetstream().await.get_stream("THINGS").await.expect("it exists");
    for sequence in [4, 5, 10] {
        assert!(stream.delete_message(sequence).await.expect("an administrator may"));
    }
    let mut subscription = nats.events().await.subscribe("things", None, StartOffset::Earliest);
    assert_eq!(opened(&mut subscription).await, 0);
    for sequence in 1..=3 {
        assert_eq!(next(&mut subscription).await, sequence);
    }
    assert_eq!(opened(&mut subscription).await, 5);
    for sequence in 6..=9 {
        assert_eq!(next(&mut subscription).await, sequence);
    }
    assert_eq!(opened(&mut subscription).await, 10);
    publish(&nats, "thing_changed", 1).await;
    assert_eq!(next(&mut subscription).await, 11);
}

#[tokio::test]
async fn a_subscriber_that_is_slower_than_the_retention_receives_the_offset_where_it_continues() {
    let nats = Nats::start().await;
    let mut subscription = subscribed_after(&nats, 1).await;
    publish(&nats, "thing_changed", MANY).await;
    let stream = nats.jetstream().await.get_stream("THINGS").await.expect("it exists");
    stream.purge().sequence(MANY).await.expect("it is purged");
    // What it has buffered, then the gap.
    let mut sequence = 1;
    let after = loop {
        match receive(&mut subscription).await {
            Received::Message(message) => {
                assert_eq!(message.sequence, sequence + 1);
                sequence += 1;
            }
            Received::Opened { after, .. } => break after,
            Received::StreamMissing => panic!("it exists"),
        }
    };
    assert_eq!(after, MANY - 1);
    assert_eq!((next(&mut subscription).await, next(&mut subscription).await), (MANY, MANY + 1));
}

/// Makes the stream again while everything stays connected.
async fn make_again(nats: &Nats, incarnation: Option<&str>) {
    let context = nats.jetstream().await;
    let name = stream_name("things");
    let mut config = context.get_stream(&name).await.expect("it exists").cached_info().config.clone();
    context.delete_stream(&name).await.expect("an administrator may");
    if let Some(incarnation) = incarnation {
        config.description = Some(incarnation.to_owned());
    }
    context.create_stream(config).await.expect("an administrator may");
}

#[tokio::test]
async fn a_stream_with_another_incarnation_is_read_from_its_beginning() {
    let nats = Nats::start().await;
    let mut subscription = subscribed_after(&nats, 5).await;
    make_again(&nats, Some("other")).await;
    publish(&nats, "thing_changed", 2).await;
    assert_eq!(opened(&mut subscription).await, 0);
    assert_eq!((next(&mut subscription).await, next(&mut subscription).await), (1, 2));
}

#[tokio::test]
async fn a_stream_that_is_shorter_than_the_offset_is_read_from_its_end() {
    let nats = Nats::start().await;
    let mut subscription = subscribed_after(&nats, 5).await;
    // As when the server was restored from a backup with the first two messages.
    make_again(&nats, None).await;
    publish(&nats, "thing_changed", 2).await;
    assert_eq!(opened(&mut subscription).await, 2);
    publish(&nats, "thing_changed", 1).await;
    assert_eq!(next(&mut subscription).await, 3);
}

#[tokio::test]
async fn a_publisher_cannot_forge_the_sequence_of_a_message() {
    let nats = Nats::start().await;
    let mut subscription = subscribed_after(&nats, 1).await;
    let mut headers = HeaderMap::new();
    headers.insert(NATS_SEQUENCE, "99");
    let client = nats.client().await;
    client.publish_with_headers("flack.things.thing_changed.2", headers, "{}".into()).await.expect("sent");
    assert_eq!(next(&mut subscription).await, 2);
    let mut again = nats.events().await.subscribe("things", None, StartOffset::Last(1));
    assert_eq!((opened(&mut again).await, next(&mut again).await), (1, 2));
}

#[tokio::test]
async fn a_stream_of_an_older_version_keeps_its_messages_and_is_read_from_its_beginning() {
    let nats = Nats::start().await;
    let context = nats.jetstream().await;
    let subjects = vec!["flack.things.*.>".to_owned()];
    let description = Some("old".to_owned());
    let config = Config { name: stream_name("things"), subjects, description, ..Config::default() };
    context.create_stream(config).await.expect("it is made");
    publish(&nats, "thing_changed", MANY).await;
    prepare_stream(nats.client().await, "things", 1).await.expect("it is made again");
    prepare_stream(nats.client().await, "things", 1).await.expect("it is complete");

    let start = StartOffset::After { incarnation: "old".to_owned(), sequence: MANY - 1 };
    let mut subscription = nats.events().await.subscribe("things", None, start);
    assert_eq!(opened(&mut subscription).await, 0);
    for sequence in 1..=MANY {
        assert_eq!(next(&mut subscription).await, sequence);
    }
    publish(&nats, "thing_changed", 1).await;
    assert_eq!(next(&mut subscription).await, MANY + 1);
}
