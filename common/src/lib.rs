//! The infrastructure that every process uses. Users, messages and the other parts of the chat are in `services/`.

pub mod telemetry;
pub mod config;
pub mod process;
pub mod database;
pub mod http;
pub mod fetch;
pub mod auth;
pub mod password;
pub mod text;
pub mod rate;
pub mod quota;
pub mod restart;
pub mod registry;
pub mod authority;
pub mod forward;
pub mod events;
pub mod service;
