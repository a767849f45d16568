//! The websocket service with a real nats-server and real sockets. Its peers are mocks behind the API traits.

mod model;
mod peers;
mod server;
mod client;

mod hello;
mod events;
mod channels;
mod inbox;
mod duplicates;
mod actions;
mod limits;
mod shutdown;
