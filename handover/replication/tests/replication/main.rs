//! Replication between two real databases, over HTTP, with the records in a real registry.

mod pair;
mod copy;
mod changes;
mod verification;
mod cut_over;
mod access;
