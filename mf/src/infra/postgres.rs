//! PostgreSQL: one server for the stack, one database and one role per service. A role can connect only to its own
//! database.

mod accounts;
mod container;
mod folder;
mod server;
mod temporary;

pub use accounts::{connect_to, ready, set_up};
pub use container::serve as serve_in_container;
pub use folder::remove as remove_data;
pub use server::{MAJOR_MIN, Server};
pub use temporary::TemporaryServer;
