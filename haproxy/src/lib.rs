//! The balancer's agent: keeps HAProxy equal to the registry.
//!
//! Owns the configuration of HAProxy, its maps, its servers, and the keys below `/flack/balancer/`. Leaves to
//! others: who gets which route (`mf` writes that), whether an instance is well (HAProxy's health checks), and
//! every request (HAProxy alone; the agent may be dead for all a request cares).
//!
//! Reading order: `knowledge` (what the registry said last, and what of it still counts), `target` (what should
//! be), `actual` (what HAProxy says is), `plan` (the steps between the two; pure), `agent` (the loop that takes
//! them). Around these: `render` and `files` (for the next start of HAProxy), `admin` and `master` (its two
//! sockets), `announce` (tells instances whether they get traffic).

pub mod config;
pub mod knowledge;
pub mod target;
pub mod actual;
pub mod plan;
pub mod agent;
pub mod render;
pub mod files;
pub mod admin;
pub mod master;
pub mod announce;
