//! What these tests read from and change in a nats-server.

use std::time::Duration;

use flack_common::{
    config::EventsConfig,
    events::{Events, JetStream},
};
use flack_testing::Nats;

/// Starts a server with the stream THINGS. It is made again when the server has lost it.
pub async fn start_nats() -> Nats {
    let mut nats = stopped_nats().await;
    nats.start_again().await;
    nats
}

pub async fn stopped_nats() -> Nats {
    let mut nats = Nats::stopped();
    nats.keep_stream("things").await;
    nats
}

pub async fn events_at(url: String) -> Events {
    let config = EventsConfig::without_credentials(url);
    Events::JetStream(JetStream::connect(&config).await.expect("a valid address"))
}

/// Makes the server forget the message ids of a stream, as after the duplicate window.
pub async fn forget_message_ids(nats: &Nats, stream: &str) {
    let context = nats.jetstream().await;
    let mut config = context.get_stream(stream).await.expect("the stream exists").cached_info().config.clone();
    config.duplicate_window = Duration::from_millis(100);
    context.update_stream(config).await.expect("it may be changed");
}

/// Returns the number of messages in a stream.
pub async fn count(nats: &Nats, stream: &str) -> u64 {
    match tokio::time::timeout(Duration::from_secs(5), nats.jetstream().await.get_stream(stream)).await {
        Ok(Ok(stream)) => stream.cached_info().state.messages,
        _ => 0,
    }
}
