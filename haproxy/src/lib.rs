//! The balancer's agent: keeps HAProxy equal to the registry.
//!
//! Owns the configuration of HAProxy, its maps, its servers, and the keys below `/flack/balancer/`. Leaves to others:
//! routes (`mf` writes them), the health of instances (HAProxy's checks), and every request (HAProxy alone: requests do
//! not need a running agent).
//!
//! Reading order: `last_known` (the last known state of the registry), `desired` and `maps` (the desired state),
//! `actual` (HAProxy's state), `plan` (the differences, a pure function), `apply` (one difference as commands), `agent`
//! (the loop). Then `hosts`, `errors`, `render` and `files` (what the next start of HAProxy reads), `admin_socket` and
//! `master_socket`, and `acknowledge` (the keys that confirm to instances that they receive requests).

pub mod config;
pub mod hosts;
pub mod last_known;
pub mod maps;
pub mod actual;
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

/// A server of HAProxy, `<backend>/<server>`, which is `<service>/<instance>` in the registry.
///
/// Neither name contains a slash.
pub type ServerName = String;

fn service_of(server: &str) -> &str {
    server.split_once('/').map_or(server, |(service, _)| service)
}
