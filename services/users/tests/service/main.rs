//! The users part over a real PostgreSQL, through its API.

mod support;
mod accounts;
mod nicknames;
mod presence;
mod events;
