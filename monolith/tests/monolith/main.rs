//! The monolith over a real PostgreSQL and, where it has to share, a real etcd.

mod support;
mod life;
mod one_database;
mod authority;
mod previews;
mod sockets;
mod told;
