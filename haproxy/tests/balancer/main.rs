//! The agent with a real HAProxy and a real etcd.
//!
//! Each test has its own stack in a temporary folder. The tests run one after another, because some measure times.

mod support;

mod lifecycle;
mod failures;
mod connections;
mod listeners;
mod parts;
mod routes;
mod splits;
mod hosts;
mod limits;
mod sockets;
