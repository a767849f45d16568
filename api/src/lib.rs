//! The schemas, as Rust: types, server traits, routers, clients and mock servers made from `openapi/` and `schemas/`.
//!
//! What stands here is all that one part of Flack may know of another. `build/` says how it is made.

mod problem;
mod call;
mod server;
mod client;
mod generated;

pub mod docs;
pub mod events;

pub use call::{BasicCaller, Context, TokenCaller, VerifyToken};
pub use client::CALL_DEADLINE;
pub use generated::{frames, messages, tokens, ui, users};
pub use problem::Problem;
pub use server::{
    BODY_BYTES_MAX, CORRELATION_ID, is_correlation_id, method_not_allowed_fallback, not_found_fallback,
};
