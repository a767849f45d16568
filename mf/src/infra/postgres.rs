//! PostgreSQL: one server for the stack, one database and one role for each owner, none of which can connect elsewhere.

mod accounts;
mod folder;
mod server;
mod temporary;

pub use accounts::{connect_to, ready, set_up};
pub use folder::remove as remove_data;
pub use server::{MAJOR_MIN, Server};
pub use temporary::TemporaryServer;
