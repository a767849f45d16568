//! The tag service over a real PostgreSQL, through its API.

mod support;
mod matching;
mod permissions;
mod replay;
