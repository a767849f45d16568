//! The websocket service with a real nats-server and real sockets; its peers are stand-ins behind the same seams.

mod nats;
mod peers;
mod server;
mod client;

mod hello;
mod events;
mod inbox;
mod twins;
mod actions;
mod limits;
mod shutdown;
