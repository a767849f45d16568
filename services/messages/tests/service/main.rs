//! The messages part over a real PostgreSQL, through its API.

mod support;
mod api;
mod idempotency;
mod previews;
mod nicknames;
mod events;
mod amplification;
mod ownership;
