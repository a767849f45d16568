//! What the service tells the others: its journal, as its relay publishes it.

use std::time::Duration;

use crate::support::{ADA, CORRELATION_ID, Service};
use flack_api::events::{Event, MessagesEvent, Operation};
use flack_common::events::{Events, InProcess, Received, Relay, StartOffset, Subscription};
use flack_messages::events;
use http::StatusCode;
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const WAIT_MAX: Duration = Duration::from_secs(10);

async fn next(reader: &mut Subscription) -> Event<MessagesEvent> {
    loop {
        let reading = timeout(WAIT_MAX, reader.next()).await.expect("an event in time");
        if let Received::Message(message) = reading {
            return serde_json::from_slice(&message.payload).expect("an event of the schema");
        }
    }
}

#[sqlx::test(migrations = false)]
async fn every_change_of_a_message_is_told_in_order_with_what_it_is_now(pool: PgPool) {
    let service = Service::start(pool).await;
    let bus = Events::InProcess(InProcess::new("messages"));
    let relay = Relay::new("messages", service.pool.clone(), bus.clone(), events::map);
    tokio::spawn(relay.run(CancellationToken::new()));
    let mut reader = bus.subscribe("messages", None, StartOffset::Earliest);

    let posted = service.post(ADA, "one https://a.example").await;
    service.put(ADA, &posted["id"], "*two*", StatusCode::NO_CONTENT).await;

    let MessagesEvent::ChannelChanged(channel) = next(&mut reader).await.union else {
        panic!("not a channel")
    };
    assert_eq!(channel.name, "general");
    let event = next(&mut reader).await;
    let MessagesEvent::MessageChanged(message) = &event.union else { panic!("not a message: {event:?}") };
    assert_eq!((event.operation, event.version), (Operation::Insert, 1));
    assert_eq!(event.correlation_id.as_deref(), Some(CORRELATION_ID));
    assert_eq!(
        (message.user_id, message.channel_id, &*message.source),
        (ADA, channel.id, "one https://a.example")
    );
    let event = next(&mut reader).await;
    let MessagesEvent::MessageChanged(message) = &event.union else { panic!("not a message: {event:?}") };
    assert_eq!(
        (event.operation, event.version, &*message.html),
        (Operation::Update, 2, "<p><em>two</em></p>\n")
    );
}
