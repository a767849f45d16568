//! The programs a stack stands on: how each is found, set up with its accounts, started, and known to be ready.

pub mod etcd;
pub mod haproxy;
pub mod nats;
pub mod postgres;
pub mod programs;
