//! `mf` runs, observes and breaks a flack stack on this machine, as processes or in containers.
//!
//! It owns the processes and containers of a stack, the state folder with settings and secrets, and the accounts in
//! PostgreSQL, etcd and NATS. It leaves to others: database schemas (each service migrates its own), and HAProxy's
//! configuration (its agent's).

// First, because the others use their macros.
#[macro_use]
pub mod failure;
#[macro_use]
pub mod output;

// A stack: its state folder, versions, ports, settings.
pub mod builds;
pub mod home;
pub mod ports;
pub mod secrets;
pub mod services;
pub mod settings;

// Its processes.
pub mod infra;
pub mod launch;
pub mod migrate;
pub mod registry;
pub mod runtime;
pub mod splits;
pub mod stack;
pub mod supervisor;
pub mod upgrade;

// The commands, and what they use.
pub mod cargo;
pub mod checks;
pub mod cli;
pub mod commands;
pub mod git;
pub mod help;
pub mod logs;
pub mod probe;
pub mod progress;
pub mod signals;
pub mod suggestion;
pub mod test_users;
pub mod time;

pub use cli::run;
