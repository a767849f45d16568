//! Attacks on a real stack by another user of the machine, who has no password, no certificate and no file of it, and
//! by a service that was taken over.

use std::process::ExitCode;

use flack_conformance::{
    stack::{Stack, Stage},
    suite::{self, Case},
};

mod attacker;
mod files;
mod etcd;
mod postgres;

fn main() -> ExitCode {
    suite::main(&[("services", || Stack::start(Stage::Services, ""))], attacks)
}

fn attacks(_: &str) -> Vec<Case> {
    [files::cases(), etcd::cases(), postgres::cases()].into_iter().flatten().collect()
}
