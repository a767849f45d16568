//! The recommend service over a real PostgreSQL, through its API.

mod support;
mod ranking;
mod permissions;
mod replay;
