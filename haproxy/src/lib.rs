//! The balancer's agent: keeps HAProxy equal to the registry.
//!
//! Owns the configuration of HAProxy, its maps, its servers, and the keys below `/flack/balancer/`. Leaves to others:
//! routes and splits (`mf` writes them), the health of instances (HAProxy's checks), and every request (HAProxy alone:
//! requests do not need a running agent).
//!
//! Reading order: `last_known` (the last known state of the registry), `desired` and `maps` (the desired state),
//! `servers` (their names), `splits` (which requests get another version), `actual` (HAProxy's state), `plan` (the
//! differences, a pure function), `apply` (one difference as commands), `agent` (the loop). Then `hosts`, `errors`,
//! `render` and `files` (what the next start of HAProxy reads), `admin_socket` and `master_socket`, and `acknowledge`
//! (the keys that confirm to instances that they receive requests).

pub mod config;
pub mod hosts;
pub mod last_known;
pub mod maps;
pub mod actual;
pub mod servers;
pub mod splits;
pub mod desired;
pub mod plan;
pub mod apply;
pub mod agent;
pub mod errors;
pub mod render;
pub mod files;
pub mod admin_socket;
pub mod master_socket;
pub mod acknowledge;

pub use servers::ServerName;
