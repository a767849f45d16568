//! The schemas as Rust: types, server traits, routers, clients, layers and mock servers, generated from `openapi/`
//! and `schemas/`.
//!
//! A part of Flack knows nothing else about another part. `build/` generates the code.

mod problem;
mod call;
mod rate_limit;
mod operation;
mod server;
mod client;
mod layer;
mod generated;
mod models;
mod page_cursor;

pub mod docs;
pub mod events;

pub use call::{BasicCaller, Context, TokenCaller, VerifyToken};
pub use client::{CALL_DEADLINE, http_client_builder};
pub use generated::{frames, frames_v2, services::*};
pub use layer::{Invocation, Layer, Layered, Output};
pub use models::GENERAL_CHANNEL_ID;
pub use operation::OperationInfo;
pub use page_cursor::{id_of_page_cursor, page_cursor};
pub use problem::Problem;
pub use rate_limit::{RateLimit, RateLimits};
pub use server::{
    BODY_BYTES_MAX, CORRELATION_ID, FILE_BYTES_MAX, accepts_html, body_bytes_max, is_correlation_id,
    method_not_allowed_fallback, not_found_fallback, problem_page,
};
