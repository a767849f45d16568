//! The common code of all generated routers: context, credentials, checks of the request, response.
//!
//! A generated handler checks in this order: credentials, parameters, body.

mod answer;
mod context;
mod credentials;
mod problem_page;
mod request;
pub mod shape;
mod strict_json;

pub use answer::{Answer, method_not_allowed_fallback, not_found_fallback};
pub use context::{
    CORRELATION_ID, DEADLINE_MS, FORWARDED_EPOCH, FORWARDED_FOR, READ, REPLICA, TRACEPARENT, is_correlation_id,
};
pub use problem_page::{accepts_html, problem_page};
pub use request::{BODY_BYTES_MAX, FILE_BYTES_MAX, body_bytes_max, open};
