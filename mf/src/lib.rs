//! `mf` runs, watches and breaks a flack stack on this machine.
//!
//! It owns the processes (one supervisor per stack is the parent of all), the state folder with its settings and
//! secrets, and the accounts in PostgreSQL, etcd and NATS. It leaves to others: what the services do with their
//! databases (each migrates its own), and how HAProxy follows the registry (the agent's work).

// First, because the others use its macro.
#[macro_use]
pub mod output;

// What a stack is: its name, its folder, its parts.
pub mod failure;
pub mod home;
pub mod ports;
pub mod secrets;
pub mod services;
pub mod settings;

// What runs it.
pub mod process;
pub mod supervisor;

// What it runs.
pub mod infra;
pub mod launch;
pub mod registry;
pub mod stack;

// What people see.
pub mod cargo;
pub mod checks;
pub mod cli;
pub mod commands;
pub mod help;
pub mod logs;
pub mod probe;
pub mod progress;
pub mod signals;

pub use cli::run;
