//! The toolset every process uses: how it starts, talks, listens, stores, registers, tells and stops.
//!
//! Infrastructure only. What a user or a message is, is the business of the services; nothing here knows.

pub mod telemetry;
pub mod config;
pub mod process;
pub mod database;
pub mod http;
pub mod fetch;
pub mod auth;
pub mod password;
pub mod rate;
pub mod registry;
pub mod authority;
pub mod events;
