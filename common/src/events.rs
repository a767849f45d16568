//! Events: every change of data, in order, kept. From the journal in the owner's database to the inbox of whoever reads.
//!
//! What an event means is the business of its owner and its readers; nothing here knows a user from a message.
//!
//! # To tell: attach the tables, start the relay
//! ```sql
//! -- in a migration; the table has a primary key and `version bigint not null default 1`
//! select attach_journal('users', 'user', omit => '{password_hash}');
//! ```
//! ```ignore
//! fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
//!     match row.entity.as_str() {
//!         "user" => {
//!             let user: UserRow = row.decode()?; // a struct with the columns' names; timestamptz as DateTime<Utc>
//!             MappedEvent::new(row, &UsersEvent::UserChanged(user.into())).map(Some)
//!         }
//!         _ => Ok(None), // nothing to tell
//!     }
//! }
//! let events = match &config.events {
//!     Some(config) => Events::JetStream(JetStream::connect(config).await?), // does not wait for NATS
//!     None => Events::InProcess(InProcess::new("monolith")),                     // one process alone
//! };
//! background.spawn("relay", Relay::new("users", pool.clone(), events.clone(), map).run(background.drained())); // the last requests' too
//! background.spawn("partitions", partitions::maintain(pool.clone(), background.stopping()));
//! ```
//! Writes go through `database::begin(&pool, &context)`, which hands the correlation id to the trigger.
//!
//! # To listen: a handler, started once per stream
//! ```ignore
//! #[async_trait]
//! impl Handler for Nicknames {
//!     async fn handle(&self, transaction: &mut Transaction<'_, Postgres>, event: &StoredEvent) -> anyhow::Result<()> {
//!         let event: Event<UsersEvent> = event.decode()?;
//!         ...  // write the derived copy in this transaction; an error is recorded, retried, and at last a dead letter
//!     }
//! }
//! let consumer = Consumer::new("users", pool.clone(), events.clone(), Arc::new(Nicknames)).only("user_changed");
//! background.spawn("consumer", consumer.run(background.stopping()));
//! ```
//! Tests and sockets that need no inbox read a stream directly: `events.subscribe("users", None, StartOffset::Last(1000))`.
//!
//! # What holds
//! - An event is published at least once, after its transaction committed, and never if that was rolled back.
//! - Events of one entity keep their order, in the stream and in each handler.
//! - A handler sees each event once, unless an operator replays it after clearing the derived copy.
//! - NATS away: writes go on, the queue grows; it drains by itself. At `journal_queue_rows_max()` (a million) rows new
//!   writes are refused with 503 until it does: better than a full disk.

mod bus;
mod connection;
mod consumer;
mod inbox;
mod jetstream;
mod jetstream_subscription;
mod journal_row;
mod in_process;
pub mod partitions;
mod relay;

pub use bus::{Events, Outgoing, Received, StartOffset, StreamMessage, Subscription};
pub use consumer::{Consumer, Handler, RetryPolicy};
pub use in_process::InProcess;
pub use inbox::StoredEvent;
pub use jetstream::JetStream;
pub use journal_row::{JournalRow, MappedEvent};
pub use relay::Relay;

/// How long the journal and the inbox keep what was told: as long as the streams do, so that a replay can fill any gap.
pub const JOURNAL_RETENTION_DAYS: i32 = 14;

/// The stream of an owner: `USERS` for `users`.
pub fn stream_name(owner: &str) -> String {
    owner.to_ascii_uppercase()
}
