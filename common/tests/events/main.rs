//! The events pipeline against a real PostgreSQL and a real nats-server.

mod nats;
mod things;

mod journal;
mod ownership;
mod operations;
mod relay;
mod subscription;
mod consumer;
mod in_process;
mod permissions;
mod cluster;
