//! The monolith over a real PostgreSQL and, beside services, a real etcd.

mod support;
mod use_cases;
mod one_database;
mod authority;
mod sides;
mod forward;
mod departure;
mod ownership;
mod previews;
mod sockets;
mod write_limit;
mod events;
