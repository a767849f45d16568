//! The schemas, as Rust: types, server traits, routers, clients and mock servers made from `openapi/` and `schemas/`.
//!
//! What stands here is all that one part of Flack may know of another.

mod problem;
mod call;

pub use call::{BasicCaller, Context, TokenCaller, VerifyToken};
pub use problem::Problem;
