//! Checks that a change of a database's schema does not stop or break the running versions.
//!
//! It owns the rules for migrations, and the run of the previous version's tests on this version's schema. It leaves
//! to others: the migrations themselves (`migrations/`), and applying them (`flack_common::database::migrate`).

pub mod rules;
pub mod lint;
pub mod released;
pub mod previous;
