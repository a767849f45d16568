//! The agent against a real HAProxy and a real etcd: what comes, what goes, what breaks.
//!
//! Each test has a stack of its own in a temporary folder. They run one after another: times are measured here.

mod support;

mod come_and_go;
mod bad_days;
mod doors;
mod routes;
