//! One file per command: its arguments with their help, and what it does.

pub mod bench;
pub mod build;
pub mod chaos;
pub mod check;
pub mod completions;
pub mod container;
pub mod dev;
pub mod doctor;
pub mod down;
pub mod env;
pub mod events;
pub mod kill;
pub mod logs;
pub mod man;
pub mod migrate;
pub mod ps;
pub mod restart;
pub mod routes;
pub mod run;
pub mod scale;
pub mod supervise;
pub mod test;
pub mod up;
pub mod upgrade;
pub mod verify;
