//! The messages part over a real PostgreSQL, through its API.

mod support;
mod api;
mod message_pages;
mod channels;
mod members;
mod permissions;
mod deleted_messages;
mod threads;
mod annotations;
mod files;
mod mentions;
mod entity_tags;
mod idempotency;
mod previews;
mod nicknames;
mod events;
mod amplification;
mod ownership;
