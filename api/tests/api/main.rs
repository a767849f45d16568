//! Tests of the generated routers, clients and types. One binary, because linking takes longer than running.

mod support;

mod asyncapi;
mod client;
mod documents;
mod events_and_frames;
mod layer;
mod mock;
mod models;
mod personal_data;
mod problem_kinds;
mod router;
mod types_alone;
