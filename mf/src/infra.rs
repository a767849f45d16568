//! Third-party servers: how each is found, started and checked, and how its accounts are created.

pub mod etcd;
pub mod haproxy;
pub mod nats;
pub mod postgres;
pub mod programs;
