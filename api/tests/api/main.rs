//! The generated routers, clients and types, tried from outside. One binary: linking takes longer than running.

mod support;

mod client;
mod documents;
mod events_and_frames;
mod mock;
mod router;
