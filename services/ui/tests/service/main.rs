//! The ui part over a real PostgreSQL, through its API, and the files of the browser app.

mod support;
mod api;
mod pages;
mod events;
mod rename_a_column;
mod ownership;
