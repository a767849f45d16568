//! The users service over a real PostgreSQL, asked as a client asks.

mod support;
mod accounts;
mod presence;
mod told;
