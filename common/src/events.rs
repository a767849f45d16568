//! Events: every change of data is published in order, from the journal in the owner's database to the consumers'
//! inboxes.
//!
//! Leaves the meaning of events to their owners and consumers: no type here is about a user or a message.
//!
//! # To publish: attach the tables, start the relay
//! ```sql
//! -- In a migration; the table has a primary key and `version bigint not null default 1`.
//! select attach_journal('users', 'user', omit => '{password_hash}');
//! ```
//! ```ignore
//! fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
//!     match row.entity.as_str() {
//!         "user" => {
//!             let user: UserRow = row.decode()?; // a struct with the columns' names; timestamptz as DateTime<Utc>
//!             MappedEvent::new(row, &UsersEvent::UserChanged(user.into())).map(Some)
//!         }
//!         _ => Ok(None), // not published
//!     }
//! }
//! let events = match &config.events {
//!     Some(config) => Events::JetStream(JetStream::connect(config).await?), // connects in the background
//!     None => Events::InProcess(InProcess::new("monolith")),
//! };
//! publish_journal("users", &pool, &events, map, &background);
//! ```
//! Writes use `database::begin(&pool, &context)`, which passes the correlation id to the trigger.
//!
//! # To consume: a handler, and one consumer for each stream that the catalogue names
//! ```ignore
//! #[async_trait]
//! impl Handler for Nicknames {
//!     async fn handle(&self, transaction: &mut Transaction<'_, Postgres>, event: &StoredEvent) -> anyhow::Result<()> {
//!         let event: Event<UsersEvent> = event.decode()?;
//!         ...  // Writes the projection in this transaction. After an error the event is retried.
//!     }
//! }
//! consume(Service::named("messages"), Some("user_changed"), &pool, &events, &Arc::new(Nicknames), &background);
//! ```
//! Code without an inbox, such as the feed of websocket, subscribes directly:
//! `events.subscribe("users", None, StartOffset::Last(1000))`.
//!
//! # The streams
//! An administrator makes them: `mf`, with [`prepare_stream`] at start and [`keep_streams`] as long as the stack runs.
//! A service may only publish to its own stream and read those of the catalogue; relay and subscriptions wait for a
//! missing one.
//!
//! # Guarantees
//! - An event is published at least once after its transaction has committed, and never after a rollback.
//! - Events of one entity keep their order, in the stream and in each handler.
//! - A handler processes each event once, unless an operator clears the projection and replays.
//! - While NATS is unavailable, writes succeed and the queue grows. At `journal_queue_rows_max()` rows (a million)
//!   writes are refused with 503 until NATS is available again, because a full disk would stop reads too.

mod stream;
mod journal_row;
mod connection;
mod jetstream;
mod jetstream_subscription;
mod streams;
mod in_process;
mod bus;
mod relay;
mod inbox;
mod consumer;
pub mod partitions;

use std::sync::Arc;

use flack_catalogue::Service;
use sqlx::PgPool;

use crate::process::Background;

pub use bus::{Events, Subscription};
pub use consumer::{Consumer, Handler};
pub use in_process::InProcess;
pub use inbox::StoredEvent;
pub use jetstream::JetStream;
pub use journal_row::{JournalRow, MappedEvent};
pub use relay::{Map, Relay};
pub use stream::{JOURNAL_RETENTION_DAYS, Outgoing, Received, StartOffset, StreamMessage, stream_name};
pub use streams::{keep_streams, live_subjects, prepare_stream};

/// Starts the relay of the owner's journal, and the maintenance of the partitions.
pub fn publish_journal(owner: &'static str, pool: &PgPool, events: &Events, map: Map, background: &Background) {
    partitions::maintain(background, pool.clone());
    let relay = Relay::new(owner, pool.clone(), events.clone(), map);
    // Until `drained`, not `stopping`: the last requests write journal rows too.
    background.spawn("relay", relay.run(background.drained()));
}

/// Starts one consumer for each stream that `service` reads according to the catalogue.
pub fn consume<H: Handler>(
    service: &Service,
    pool: &PgPool,
    events: &Events,
    handler: &Arc<H>,
    background: &Background,
) {
    for owner in service.reads_events_of {
        let handler = Arc::clone(handler) as _;
        let consumer = Consumer::new(owner, pool.clone(), events.clone(), handler);
        background.spawn(format!("consumer of {owner}"), consumer.run(background.stopping()));
    }
}
