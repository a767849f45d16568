//! The events that messages publishes.

use crate::support::{ADA, CORRELATION_ID, Service};
use flack_api::events::{Event, MessagesEvent, Operation};
use flack_messages::{SERVICE, events};
use flack_testing::published;
use http::StatusCode;
use sqlx::PgPool;

#[sqlx::test(migrations = false)]
async fn every_change_of_a_message_is_published_in_order(pool: PgPool) {
    let service = Service::start(pool).await;
    let posted = service.post(ADA, "one https://a.example").await;
    service.put(ADA, &posted["id"], "*two*", StatusCode::NO_CONTENT).await;

    let published = published(SERVICE, &service.pool, events::map, 3).await;
    let mut published = published
        .into_iter()
        .map(|(_, event)| -> Event<MessagesEvent> { serde_json::from_value(event).expect("an event of the schema") });
    let mut next = || published.next().expect("three events");
    let MessagesEvent::ChannelChanged(channel) = next().union else { panic!("not a channel") };
    assert_eq!(channel.name, "general");
    let event = next();
    let MessagesEvent::MessageChanged(message) = &event.union else { panic!("not a message: {event:?}") };
    assert_eq!((event.operation, event.version), (Operation::Insert, 1));
    assert_eq!(event.correlation_id.as_deref(), Some(CORRELATION_ID));
    assert_eq!((message.user_id, message.channel_id, &*message.source), (ADA, channel.id, "one https://a.example"));
    let event = next();
    let MessagesEvent::MessageChanged(message) = &event.union else { panic!("not a message: {event:?}") };
    assert_eq!((event.operation, event.version, &*message.html), (Operation::Update, 2, "<p><em>two</em></p>\n"));
}
