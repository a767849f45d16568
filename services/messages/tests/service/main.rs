//! The messages service, black box: a real database of its own for each test, everything else in this process.

mod support;

mod api;
mod idempotency;
mod previews;
mod nicknames;
mod events;
