//! The users part over a real PostgreSQL, through its API.

mod support;
mod accounts;
mod guesses;
mod nicknames;
mod passwords;
mod presence;
mod profiles;
mod events;
mod ownership;
